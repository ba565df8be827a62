"""The usual forms of records, recognised by their fields, and what is learned from each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

FormName = Literal["messages", "tags", "alpaca", "pairs", "labels", "text"]
LearnsFrom = Literal["text", "pairs", "labels", "tags", "conversations"]


class Form(NamedTuple):
    """Usual names of a record's first field and of its second, and what is learned: by itself, or if asked.

    `inputs` are the names of a text alone where there are no `targets`.
    """

    name: FormName
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    teaches: tuple[LearnsFrom, ...]

    def __str__(self) -> str:
        return " and ".join(names[0] for names in (self.inputs, self.targets) if names)

    def has(self, fields: Sequence[str]) -> bool:
        """Whether all these names are usual ones of the form."""
        return all(name.strip().lower() in (*self.inputs, *self.targets) for name in fields)


TEXTS = ("text", "sentence", "review")
FORMS = (  # the first that matches
    Form("messages", ("messages", "conversations"), (), ("conversations",)),
    Form("tags", ("tokens", "words", "input"), ("tags", "ner_tags", "pos_tags", "target"), ("tags",)),
    Form("alpaca", ("instruction",), ("output", "response"), ("pairs", "conversations")),
    Form(
        "pairs",
        ("prompt", "input", "question"),
        ("completion", "target", "output", "response", "answer"),
        ("pairs", "conversations", "labels", "tags"),
    ),
    Form(
        "labels", (*TEXTS, "input"), ("label", "labels", "class", "category", "target"), ("labels", "pairs")
    ),
    Form("text", TEXTS, (), ("text",)),
)


class Match(NamedTuple):
    """A form, and the names of its fields in the records of a file."""

    form: Form
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return " and ".join(self.fields)


def match(record: Any, learns_from: LearnsFrom | None = None) -> Match | None:
    """The form of a record, among those that `learns_from` can be learned from."""
    if not isinstance(record, dict):
        return None
    names = {str(name).strip().lower(): str(name) for name in reversed(record)}
    for form in FORMS:
        if learns_from is not None and learns_from not in form.teaches:
            continue
        sides = [side for side in (form.inputs, form.targets) if side]
        found = [next((names[name] for name in side if name in names), None) for side in sides]
        fields = tuple(name for name in found if name is not None)
        values = [record[name] for name in fields]
        if len(fields) == len(sides) and _is_plausible(form, learns_from, fields, values):
            return Match(form, fields)
    return None


def _is_plausible(
    form: Form, learns_from: LearnsFrom | None, fields: Sequence[str], values: list[Any]
) -> bool:
    """Whether the values are of this form; those of one that was asked for are not in doubt."""
    if form.name == "messages":
        return isinstance(values[0], list)
    if learns_from is not None:
        return True
    if form.name == "tags" and isinstance(values[0], list):
        return True
    if form.name == "tags" and fields[0] == form.inputs[-1]:
        return False  # a pair of texts
    return all(isinstance(value, str) for value in values[: 1 if form.name == "labels" else 2])


def expected(learns_from: LearnsFrom | None = None) -> str:
    """The usual fields of records, for messages."""
    *most, last = [str(form) for form in FORMS if learns_from is None or learns_from in form.teaches]
    return f"{', '.join(most)} or {last}" if most else last
