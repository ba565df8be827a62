"""A conversation that stays within the model's context by dropping whole turns."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate, chain, takewhile
from typing import Any

from seedbed.base.errors import UsageError
from seedbed.generation.language_model import LanguageModel
from seedbed.text.chat_template import check_messages

HEAD_ROLES = ("system", "developer")
MAX_ESTIMATES = 6  # prompts until the search bisects instead, for a template that defies all estimates


class Conversation:
    """Messages as OpenAI's API has them, all kept here; the prompt has as many of the last as fit.

    The messages before the first turn, the system prompt, always stay. A turn begins with a user's message.
    """

    def __init__(self, lm: LanguageModel, messages: Sequence[Mapping[str, Any]] = ()) -> None:
        self._lm = lm
        self.messages = check_messages(messages) if messages else []
        self.num_unseen = 0  # turns that the last prompt left out
        self._num_tokens = cache(lambda text: len(lm.chat_template.tokenizer.encode(text)))

    def prompt(self, text: str, *, max_new_tokens: int) -> list[int]:
        """The token ids of the conversation with a new message of the user's at its end.

        Whole turns are left out, the oldest first, so that `max_new_tokens` fit after it, or half of the
        context if they are more. Errors: UsageError where the new message alone does not fit.
        """
        head, turns = self._turns()
        context = self._lm.config.max_positions or sys.maxsize
        reserved = min(max_new_tokens, context // 2)
        limit = context - reserved

        def render(num_kept: int) -> list[int]:
            kept = chain(*turns[len(turns) - num_kept :])
            return self._lm.chat_ids([*head, *kept, {"role": "user", "content": text}])

        sizes = [sum(self._num_tokens(str(v)) for m in turn for v in m.values()) for turn in turns]
        num_kept, ids = most_that_fit(render, sizes, limit)
        if len(ids) > limit:
            raise UsageError(
                f"the message and what comes before every turn have {len(ids)} tokens, but "
                f"{limit} fit beside {reserved} reserved for the answer; shorten it, or lower max_new_tokens"
            )
        self.num_unseen = len(turns) - num_kept
        return ids

    def add(self, text: str, answer: str) -> None:
        """Append a turn: the user's message and the model's answer."""
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        """Remove all turns; the messages before them stay."""
        self.messages, self.num_unseen = self._turns()[0], 0
        self._num_tokens.cache_clear()

    def _turns(self) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
        head = [*takewhile(lambda message: message["role"] in HEAD_ROLES, self.messages)]
        turns: list[list[dict[str, Any]]] = []
        for message in self.messages[len(head) :]:
            if not turns or message["role"] == "user":
                turns.append([])
            turns[-1].append(message)
        return head, turns


def most_that_fit(
    render: Callable[[int], list[int]], sizes: Sequence[int], limit: int
) -> tuple[int, list[int]]:
    """The largest number of the last turns whose prompt has at most `limit` tokens, and that prompt.

    `render` gives the prompt with a number of turns, `sizes` the tokens of each turn's texts. The number is
    estimated from them and from what the template added per turn to the prompt before. A prompt without turns
    is returned however many tokens it has.
    """
    total, added, num_tried = len(sizes), 0.0, 0
    after = list(accumulate(reversed(sizes), initial=0))  # tokens of the texts of the last 0, 1, .. turns
    whole = render(total) if after[-1] <= limit else None
    if whole is not None and len(whole) <= limit:
        return total, whole
    base = best = render(0)
    num_kept, too_many = 0, total + (whole is None)
    while len(base) <= limit and too_many - num_kept > 1:
        estimates = [len(base) + tokens + added * turns for turns, tokens in enumerate(after)]
        is_estimated = num_tried < MAX_ESTIMATES
        guess = bisect_right(estimates, limit) - 1 if is_estimated else (num_kept + too_many) // 2
        tried = min(max(guess, num_kept + 1), too_many - 1)
        ids = render(tried)
        num_tried, added = num_tried + 1, (len(ids) - len(base) - after[tried]) / tried
        if len(ids) <= limit:
            num_kept, best = tried, ids
        else:
            too_many = tried
    return num_kept, best
