"""The prompts of a task's records for one model: their tokens within its context, and those of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seedbed.base.errors import BundleError, UsageError
from seedbed.evaluation.records import Record
from seedbed.evaluation.rendering import Rendering
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel

Ids = Sequence[int]


class Prompts(Rendering):
    """Prompts of a task for one model, and their tokens; `chat`: as messages through its own template.

    Errors: UsageError for a model without a tokenizer, and with `chat` for one without a template.
    """

    def __init__(self, lm: LanguageModel, settings: TaskSettings, *, chat: bool) -> None:
        if lm.tokenizer is None:
            raise UsageError("a task needs texts, and this model has no tokenizer; give a model with one")
        super().__init__(settings, chat=chat)
        self._lm, self._tokenizer = lm, lm.tokenizer
        if chat:
            _ = lm.chat_template  # refused here if there is none
        self._context = lm.config.max_positions

    def ids(self, record: Record, shots: Sequence[Record], *, room: int) -> tuple[Ids, int]:
        """The tokens of a prompt that leaves `room` tokens of the context, and how many shots it has.

        The first shots are left out where all do not fit. Errors: UsageError for a record that does not fit
        alone.
        """
        kept = list(shots)
        while True:
            whole = self.whole(record, kept)
            found = self._lm.prompt_ids(whole) if isinstance(whole, str) else self._lm.chat_ids(whole)
            room = 0 if self._lm.config.shape == "encoder-decoder" else room
            if self._context is None or len(found) + room <= self._context:
                return found, len(kept)
            if not kept:
                raise UsageError(
                    f"{record.origin} has {len(found)} tokens with its prompt and {room} for the answer, "
                    f"but the context holds {self._context}; leave the record out, or take a model with a "
                    "longer context"
                )
            kept = kept[1:]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text alone."""
        return self._tokenizer.encode(text)

    def tokens(self, text: str) -> list[int]:
        """The tokens of an answer with the space before it, as they are in one text with its prompt."""
        if self.is_chat:
            return self._chat_answer(text)
        # Behind a letter or a line end, so that a tokenizer that puts a space before every text adds none.
        before = self._template.ending.rstrip(" ") or "x"
        if self._lm.config.shape == "encoder-decoder":
            return self._tokenizer.encode(text.lstrip(" "))
        start, whole = self._tokenizer.encode(before), self._tokenizer.encode(f"{before}{text}")
        return whole[len(start) :] if whole[: len(start)] == start else self._tokenizer.encode(text)

    def _chat_answer(self, text: str) -> list[int]:
        """The tokens of an answer in a conversation, without those that end it."""
        try:
            messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": text}]
            ids, is_answer = self._lm.chat_template.encode_answers(messages)
        except BundleError:  # the template changes answers
            return self._tokenizer.encode(text)
        own = [i for i, is_own in zip(ids, is_answer, strict=True) if is_own]
        ends = {*self._tokenizer.special_ids, *self._lm.eos_ids}
        decode = self._tokenizer.decode
        while own and (own[-1] in ends or text.strip() in decode(own[:-1])):  # an end that is plain text, too
            own.pop()
        return own

    def endings(self, words: Mapping[str, str]) -> list[list[int]]:
        """The tokens of each label's word behind a prompt, as they are in one text with it."""
        found = [self.tokens(f"{self._space}{word}") for word in words.values()]
        if empty := [label for label, ids in zip(words, found, strict=True) if not ids]:
            raise UsageError(f"the label {empty[0]!r} has no token; give labels with letters")
        return found
