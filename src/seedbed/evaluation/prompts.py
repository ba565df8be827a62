"""The prompts of a task's records: an example per shot, then the question, as text or as a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seedbed.base.errors import BundleError, DataError, UsageError
from seedbed.data.fields import fields_text
from seedbed.evaluation.records import Record
from seedbed.evaluation.task import TaskSettings
from seedbed.evaluation.template import Template
from seedbed.generation.language_model import LanguageModel

Ids = Sequence[int]


class Prompts:
    """Prompts of a task for one model; `chat`: as messages through its own template.

    Errors: UsageError for a model without a tokenizer, and with `chat` for one without a template.
    """

    def __init__(self, lm: LanguageModel, settings: TaskSettings, *, chat: bool) -> None:
        if lm.tokenizer is None:
            raise UsageError("a task needs texts, and this model has no tokenizer; give a model with one")
        self._lm, self._tokenizer, self._settings = lm, lm.tokenizer, settings
        self.is_chat = chat
        if chat:
            _ = lm.chat_template  # refused here if there is none
        own = settings.instruction if chat else settings.prompt
        default = settings.task.instruction if chat else settings.task.prompt
        self._template = Template(default if own is None else own)
        self._labels = ", ".join(settings.words.values())
        self._context = lm.config.max_positions

    def fields(self, record: Record) -> dict[str, Any]:
        """The fields of a record for its prompt."""
        more = {"input": record.text, "labels": self._labels}
        return {**self._settings.task.derived({**record.fields, **more}), **more}

    def text(self, record: Record) -> tuple[str, str]:
        """The prompt of one record without examples, and the space behind it that belongs to the answer."""
        fields = self.fields(record)
        try:
            text = self._template.filled(fields)
        except KeyError as error:
            raise DataError(
                f"{record.origin}: the prompt names {{{error.args[0]}}}, but the record has only the fields "
                f"{fields_text(record.fields)}; name one of them, or correct the record"
            ) from None
        if self.is_chat:
            return text, ""
        ending = self._template.ending  # a space at the end of the record's own text is part of it
        if not ending and text.endswith((" ", "\n")):
            return text, ""
        return text[: len(text) - len(ending) + len(ending.rstrip(" "))], self._space

    @property
    def _space(self) -> str:
        """What is between a prompt and its answer: its spaces, nothing behind a line end, else a space."""
        ending = self._template.ending
        own = ending[len(ending.rstrip(" ")) :]
        return "" if self.is_chat else own or ("" if ending.endswith("\n") else self._settings.task.space)

    def answer(self, record: Record) -> str:
        """The answer of a record, as an example has it."""
        fields = self.fields(record)
        words = self._settings.words
        reference = record.references[0] if self._settings.task.form == "texts" else record.reference
        return self._settings.task.written(reference, fields, words)

    def whole(self, record: Record, shots: Sequence[Record]) -> str | list[dict[str, str]]:
        """The prompt as a text, or as messages."""
        question, _ = self.text(record)
        about = [self._settings.description] if self._settings.description else []
        if not self.is_chat:
            examples = ["".join((*self.text(shot), self.answer(shot))) for shot in shots]
            return self._settings.separator.join([*about, *examples, question])
        messages = [_message("system", text) for text in about]
        for shot in shots:
            messages += [_message("user", self.text(shot)[0]), _message("assistant", self.answer(shot))]
        return [*messages, _message("user", question)]

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

    @property
    def names(self) -> set[str]:
        """The fields that a prompt names."""
        return self._template.names

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
            messages = [_message("user", "x"), _message("assistant", text)]
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


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
