"""A conversation that stays inside the model's context by whole turns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from seedbed.base.errors import UsageError
from seedbed.generation.language_model import LanguageModel
from seedbed.text.chat_template import check_messages

HEAD_ROLES = ("system", "developer")


class Conversation:
    """Messages as OpenAI's API has them, all kept here; the model sees as many of the last as fit.

    What stands before the first turn, the system prompt, always stays. A turn begins with a user's message.
    """

    def __init__(self, lm: LanguageModel, messages: Sequence[Mapping[str, Any]] = ()) -> None:
        self._lm = lm
        self.messages = check_messages(messages) if messages else []
        self.num_unseen = 0  # turns that the last prompt left out

    def prompt(self, text: str, *, max_new_tokens: int) -> list[int]:
        """The token ids of the conversation with a new message of the user's at its end.

        Whole turns are left out, the oldest first, so that `max_new_tokens` fit after it, or half of the
        context if they are more. Errors: UsageError where the new message alone does not fit.
        """
        head, turns = self._turns()
        question = {"role": "user", "content": text}
        room, reserved = self._room(max_new_tokens)
        found: dict[int, list[int]] = {}

        def fits(first: int) -> bool:
            found[first] = self._lm.chat_ids([*head, *chain(*turns[first:]), question])
            return room is None or len(found[first]) <= room

        first = 0 if fits(0) else bisect_left(range(len(turns) + 1), True, lo=1, key=fits)
        if first > len(turns):
            raise UsageError(
                f"the message and what comes before every turn have {len(found[len(turns)])} tokens, but "
                f"{room} fit beside {reserved} reserved for the answer; shorten it, or lower max_new_tokens"
            )
        self.num_unseen = first
        return found[first]

    def add(self, text: str, answer: str) -> None:
        """Keep a turn: what the user wrote and what the model answered."""
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        """Forget all turns; what stands before them stays."""
        self.messages, self.num_unseen = self._turns()[0], 0

    def _room(self, max_new_tokens: int) -> tuple[int | None, int]:
        """Tokens that a prompt may have, None for any number, and those kept for the answer."""
        context = self._lm.config.max_positions
        if context is None:
            return None, max_new_tokens
        reserved = min(max_new_tokens, context // 2)
        return context - reserved, reserved

    def _turns(self) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
        head: list[dict[str, Any]] = []
        turns: list[list[dict[str, Any]]] = []
        for message in self.messages:
            if not turns and message["role"] in HEAD_ROLES:
                head.append(message)
            elif not turns or message["role"] == "user":
                turns.append([message])
            else:
                turns[-1].append(message)
        return head, turns
