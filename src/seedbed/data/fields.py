"""From the fields of one record to its text and its answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from seedbed.base.errors import DataError, nearest
from seedbed.data.forms import LearnsFrom
from seedbed.data.settings import DataSettings

Content = Literal["text", "one label", "words"]
# The contents of the two fields of a labelled record.
CONTENTS: dict[LearnsFrom, tuple[Content, Content]] = {
    "pairs": ("text", "text"),
    "conversations": ("text", "text"),
    "labels": ("text", "one label"),
    "tags": ("words", "words"),
}
WHOLE = re.compile(r"(-?\d+)\.0+")  # a whole number in a table with missing values
WORD = re.compile(r"[\S\u00a0\u2007\u202f]+")  # no-break spaces are characters of a word
ROLES = {"human": "user", "gpt": "assistant"}  # in lists of `from` and `value`


class Field(NamedTuple):
    """A field of a record, the setting that names it, and its content.

    A label may also be a number, true or false, and words may be a list: all are converted to a text.
    """

    name: str
    setting: str
    content: Content | Literal["messages"] = "text"


def record_fields(settings: DataSettings, learns_from: LearnsFrom) -> list[Field]:
    """The fields that are read of a record."""
    if learns_from == "text" or settings.form == "messages":
        content: Literal["text", "messages"] = "text" if learns_from == "text" else "messages"
        return [Field(settings.text_field or settings.input or "text", "data.text_field", content)]
    names = (settings.input or "input", settings.target or "target")
    return list(map(Field, names, ("data.input", "data.target"), CONTENTS[learns_from]))


def missing_fields(record: dict[str, Any], fields: Sequence[Field], origin: str) -> str:
    """What to do about a record that lacks a field."""
    absent = next(each for each in fields if each.name not in record)
    hint = nearest(absent.name, map(str, record)).rpartition("allowed: ")[0]
    names = " and ".join(field.name for field in fields)
    return (
        f"{origin}: no field {absent.name!r}; {hint}its fields are {fields_text(record)}; expected {names} "
        f"(name another with {absent.setting})"
    )


def empty_answer(origin: str) -> DataError:
    """The error for a record whose answer has no text."""
    return DataError(f"{origin}: the answer is empty; give one, or leave the record out")


def fields_text(record: Any) -> str:
    """The names of a record's fields for a message, at most 10."""
    names = [str(name)[:30] for name in record]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def record_texts(
    record: Any,
    fields: Sequence[Field],
    settings: DataSettings,
    learns_from: LearnsFrom,
    origin: str,
    class_names: Sequence[str] = (),
) -> tuple[str, str, str | None]:
    """The text of a record, its origin, and its answer if it has one.

    A pair of texts is a conversation of one turn; an instruction has its input behind it. Errors: DataError
    with the origin.
    """
    texts = [_text(record, field, fields, origin, class_names) for field in fields]
    if len(texts) == 1:
        return texts[0], origin, None
    prompt, answer = texts
    if learns_from in ("pairs", "conversations") and not answer.strip():
        raise empty_answer(origin)
    if settings.form == "alpaca":
        given = record.get("input")
        prompt = f"{prompt}\n\n{given}" if given else prompt
        prompt = prompt if learns_from == "conversations" else f"{prompt}\n\n"
    if learns_from == "conversations":
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return json.dumps(turns, ensure_ascii=False), origin, None
    return prompt, origin, answer


def _text(
    record: Any,
    field: Field,
    fields: Sequence[Field],
    origin: str,
    class_names: Sequence[str],
) -> str:
    """The text in a field of a record; DataError with the origin for any other content."""
    name, setting, content = field
    if not isinstance(record, dict):
        raise DataError(f"{origin}: expected an object with the field {name!r}, got {type(record).__name__}")
    if name not in record:
        raise DataError(missing_fields(record, fields, origin))
    text = record[name]
    if content == "messages":
        text = _messages(text, name, origin)
    elif content == "words" and isinstance(text, list):
        text = _joined(text, name, origin, class_names if field is fields[-1] else ())
    elif content == "one label":
        text = label_text(text, class_names)
    if not isinstance(text, str):
        raise DataError(
            f"{origin}: the field {name!r} is {type(text).__name__}, not {content}; set {setting} to another "
            f"of its fields: {fields_text(record)}"
        )
    if content == "one label" and not text:
        raise DataError(f"{origin}: the field {name!r} is empty; give a label, or leave the record out")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            code = f"\\u{ord(text[error.start]):04x}"
            raise DataError(f"{origin}: the lone surrogate {code} is not a character; remove it") from error
    return text


def label_text(value: Any, class_names: Sequence[str] = ()) -> Any:
    """A label as a text: a number, true, false, or the name of its class; any other value as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value):
        value = int(value) if value.is_integer() else str(value)
    if isinstance(value, int):
        return class_names[value] if 0 <= value < len(class_names) else str(value)
    if isinstance(value, str):
        whole = WHOLE.fullmatch(value.strip())
        return whole[1] if whole else value.strip()
    return value


def _joined(words: list[Any], name: str, origin: str, class_names: Sequence[str]) -> str:
    """Join words or tags, numbers among them, with blanks."""
    texts = [word if isinstance(word, str) else label_text(word, class_names) for word in words]
    for number, word in enumerate(texts, 1):
        if not isinstance(word, str) or not WORD.fullmatch(word):
            raise DataError(
                f"{origin}: number {number} of the field {name!r} is {str(word)[:40]!r}, not one word; give "
                "words without blanks"
            )
    return " ".join(texts)


def _messages(value: Any, name: str, origin: str) -> str:
    """Messages as JSON, those of `from` and `value` among them; one must be the assistant's."""
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise DataError(
            f"{origin}: the field {name!r} is not a list of messages; give "
            '[{"role": "user", "content": ".."}, {"role": "assistant", "content": ".."}]'
        )
    turns = [
        {"role": ROLES.get(m["from"], m["from"]), "content": m.get("value")} if "from" in m else m
        for m in value
    ]
    if not any(turn.get("role") == "assistant" for turn in turns):
        raise DataError(f"{origin}: no message of {name!r} is the assistant's; leave the record out")
    for turn in turns:
        said = (part for key, part in turn.items() if key not in ("role", "name"))
        if turn.get("role") == "assistant" and not any(str(part or "").strip() for part in said):
            raise empty_answer(origin)
    return json.dumps(turns, ensure_ascii=False)
