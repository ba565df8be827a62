"""How a task renders a record: its prompt and its answer, as texts or as messages, for every model alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seedbed.base.errors import DataError
from seedbed.data.fields import fields_text
from seedbed.evaluation.records import Record
from seedbed.evaluation.task import TaskSettings
from seedbed.evaluation.template import Template

Messages = list[dict[str, str]]


class Rendering:
    """Prompts and answers of a task without a model: training and evaluation both render with it.

    `chat`: as messages, with the instruction of the task in place of its prompt.
    """

    def __init__(self, settings: TaskSettings, *, chat: bool) -> None:
        self._settings, self.is_chat = settings, chat
        own = settings.instruction if chat else settings.prompt
        default = settings.task.instruction if chat else settings.task.prompt
        self._template = Template(default if own is None else own)
        self._labels = ", ".join(settings.words.values())

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

    def whole(self, record: Record, shots: Sequence[Record]) -> str | Messages:
        """The prompt as a text, or as messages."""
        return self._messages(record, shots) if self.is_chat else self._joined(record, shots)

    def pair(self, record: Record) -> tuple[str, str]:
        """The prompt without examples and its answer as two texts, the answer with the space before it."""
        return self._joined(record, ()), f"{self.text(record)[1]}{self.answer(record)}"

    def conversation(self, record: Record) -> Messages:
        """The messages of the prompt without examples, and the answer as the assistant's."""
        return [*self._messages(record, ()), _message("assistant", self.answer(record))]

    def _joined(self, record: Record, shots: Sequence[Record]) -> str:
        question, _ = self.text(record)
        examples = ["".join((*self.text(shot), self.answer(shot))) for shot in shots]
        return self._settings.separator.join([*self._about, *examples, question])

    def _messages(self, record: Record, shots: Sequence[Record]) -> Messages:
        question, _ = self.text(record)
        messages = [_message("system", text) for text in self._about]
        for shot in shots:
            messages += [_message("user", self.text(shot)[0]), _message("assistant", self.answer(shot))]
        return [*messages, _message("user", question)]

    @property
    def _about(self) -> list[str]:
        return [self._settings.description] if self._settings.description else []

    @property
    def names(self) -> set[str]:
        """The fields that a prompt names."""
        return self._template.names


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
