"""The records of a task: files of any form, a text that is asked about, and the references of its answer."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seedbed.base.arguments import brief
from seedbed.base.errors import DataError, UsageError, nearest
from seedbed.data.fields import WORD, fields_text, label_text
from seedbed.data.files import NotUsable, byte_lines, not_encoded, read_text, source_files, unreadable
from seedbed.data.readers import Records, class_names, conll, is_conll, reader
from seedbed.data.settings import DataSettings
from seedbed.evaluation.task import TaskSettings
from seedbed.evaluation.template import Template

TEXT = "text"  # the field of a record that is a text alone, where the task does not name another one
HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """A record as it came (`fields`), its text, and its reference in the form of the task, None without one.

    `references` are all of them where a task allows several.
    """

    text: str
    reference: Any
    origin: str
    fields: Mapping[str, Any]
    problem: str = ""  # why it cannot be answered
    file: str = field(default="", compare=False)  # that it is from

    @property
    def references(self) -> list[Any]:
        """The reference as a list of all that are right."""
        return self.reference if isinstance(self.reference, list) else [self.reference]

    @property
    def words(self) -> list[str]:
        """The words of its text, one for each tag; a no-break space is a character of a word."""
        return WORD.findall(self.text)


def read_records(
    source: str | Path,
    settings: TaskSettings,
    *,
    needs_target: bool = True,
    lenient: bool = False,
    data: DataSettings | None = None,
) -> Iterator[Record]:
    """The records of a file or a folder, one by one; each line of a text is one, of CoNLL each sentence.

    The fields are the first of the task's usual names that the first record of a file has, or those that
    `settings` name. `data` chooses files of a folder, in which texts are then left out, and names columns.
    Errors: DataError with the place of a record that lacks a field or whose field is empty; if `lenient`,
    such a record has a problem instead.
    """
    is_empty = True
    chosen = data or DataSettings(train=str(source))
    has_tags = settings.task.form == "tags"
    how: dict[str, Any] = {"needs_target": needs_target, "lenient": lenient, "columns": chosen.columns}
    for file in source_files(source, include=chosen.include, exclude=chosen.exclude):
        try:
            if data is not None and Path(source).is_dir() and _is_plain(file, has_tags=has_tags):
                continue
            for record in _file_records(file, settings, **how):
                is_empty = False
                yield replace(record, file=str(file))
        except NotUsable as error:
            if not Path(source).is_dir():
                raise DataError(str(error)) from None
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(file, error) from error
    if is_empty:
        raise DataError(f"{source} has no record; give a file or folder with at least one")


def _is_plain(file: Path, *, has_tags: bool) -> bool:
    """Whether a file is a text, whose lines have no answers: notes beside records."""
    return reader(file) is None and not (has_tags and is_conll(file, read_text(file)))


def raw_records(
    file: Path,
    *,
    has_tags: bool = False,
    needs_tags: bool = True,
    name: str = TEXT,
    columns: Sequence[str] = (),
) -> Records:
    """The records of a file with their places; of a text `{name: line}` for each line that is not blank."""
    read = reader(file, columns)
    if read is not None:
        yield from read()
        return
    if has_tags and is_conll(file, text := read_text(file)):
        yield from conll(file, text, needs_tags=needs_tags)
        return
    for number, line in enumerate(byte_lines(file), 1):
        try:
            text = line.decode().strip("\r\n")
        except UnicodeDecodeError as error:
            raise not_encoded(file, f"{file}:{number}", error) from error
        if not text.isspace() and text:
            yield f"{file}:{number}", {name: text}


def record_of(fields: Any, settings: TaskSettings, origin: str, *, needs_target: bool = False) -> Record:
    """One record of named fields, or of a text alone; without its text, it has a problem.

    Errors: DataError for anything else, and with `needs_target` as those of `read_records`.
    """
    fields = {settings.input or TEXT: fields} if isinstance(fields, str) else fields
    if not isinstance(fields, Mapping):
        raise DataError(f"{origin} is {brief(fields)}, not an object; give a record with named fields")
    try:
        names = _names(fields, settings, origin, needs_target=needs_target)
        return _record(fields, names, settings, origin, (), needs_target=needs_target)
    except DataError as error:
        if needs_target:
            raise
        return Record("", None, origin, fields, str(error))


def _file_records(
    file: Path, settings: TaskSettings, *, needs_target: bool, lenient: bool, columns: Sequence[str]
) -> Iterator[Record]:
    names: tuple[str, str | None] | None = None
    classes: Sequence[str] = ()
    name = settings.input or TEXT
    has_tags = settings.task.form == "tags"
    found = raw_records(file, has_tags=has_tags, needs_tags=needs_target, name=name, columns=columns)
    for origin, fields in found:
        if not isinstance(fields, Mapping):
            raise DataError(f"{origin} is {brief(fields)}, not an object; give a record with named fields")
        if names is None:
            names = _names(fields, settings, origin, needs_target=needs_target)
            classes = class_names(file, names[1]) if names[1] else ()
        try:
            record = _record(fields, names, settings, origin, classes, needs_target=needs_target)
        except DataError as error:
            if not lenient:
                raise
            record = Record("", None, origin, fields, str(error))
        yield record


def _names(
    fields: Mapping[str, Any], settings: TaskSettings, origin: str, *, needs_target: bool
) -> tuple[str, str | None]:
    """The fields with the text and with the answer; the second may be missing where no answer is needed."""
    task = settings.task
    lower = {str(name).strip().lower(): str(name) for name in reversed(list(fields))}
    text = settings.input or next((lower[name] for name in task.inputs if name in lower), None)
    if text is None:
        raise DataError(_missing(origin, fields, "text", "input", task.inputs))
    usual = (lower[name] for name in task.targets if name in lower and lower[name] != text)
    target = settings.target or next(usual, None)
    if target is None and needs_target:
        raise DataError(_missing(origin, fields, "answer", "target", task.targets))
    for template in (settings.prompt or "", settings.instruction or ""):
        if target in Template(template).names - {"input", "labels"}:
            raise UsageError(f"the prompt names {{{target}}}, which is the answer of {origin}; leave it out")
    return text, target


def _missing(origin: str, fields: Mapping[str, Any], what: str, setting: str, usual: Sequence[str]) -> str:
    return (
        f"{origin}: none of the fields {fields_text(fields)} has the usual name of the {what} "
        f"({', '.join(usual)}); name it with --set data.{setting}=FIELD"
    )


def _record(
    fields: Mapping[str, Any],
    names: tuple[str, str | None],
    settings: TaskSettings,
    origin: str,
    classes: Sequence[str],
    *,
    needs_target: bool,
) -> Record:
    for name in names:
        if name is not None and name not in fields and (needs_target or name == names[0]):
            hint = nearest(name, map(str, fields)).rpartition("allowed: ")[0]
            raise DataError(f"{origin}: no field {name!r}; {hint}its fields are {fields_text(fields)}")
    form, text = settings.task.form, fields[names[0]]
    if form == "tags" and isinstance(text, list):
        text = " ".join(str(word) for word in text)
    if not isinstance(text, str) or not text.strip():
        what = "empty" if isinstance(text, str) else brief(text)
        raise DataError(f"{origin}: the field {names[0]!r} is {what}; give a text, or leave the record out")
    if half := HALF.search(text):
        raise DataError(f"{origin}: the lone surrogate \\u{ord(half[0]):04x} is not a character; remove it")
    reference = None
    if names[1] is not None and fields.get(names[1]) is not None:
        reference = _reference(fields[names[1]], form, classes)
    if reference is None and needs_target:
        found = brief(fields.get(names[1] or ""))
        raise DataError(
            f"{origin}: the field {names[1]!r} is {found}, expected is {EXPECTED[form]}; correct it, or "
            "leave the record out"
        )
    if reference is not None and (half := HALF.search("".join(map(str, reference)))):
        raise DataError(
            f"{origin}: the field {names[1]!r} has the lone surrogate \\u{ord(half[0]):04x}; remove it"
        )
    if form == "tags" and reference is not None and len(reference) != (number := len(WORD.findall(text))):
        raise DataError(f"{origin}: {number} words and {len(reference)} tags; give one tag for each word")
    if classes and names[1] is not None:
        fields = {**fields, names[1]: reference}  # the name of the class
    if reference is not None:
        reference = settings.task.expected(reference, fields)
    return Record(text, reference, origin, fields)


EXPECTED = {
    "texts": "a text, or a list of texts that are right",
    "text": "a text",
    "label": "a label",
    "tags": "a list of tags, one for each word",
    "code": "tests: a text or a list of lines",
}


def _reference(value: Any, form: str, classes: Sequence[str]) -> Any:
    """A reference in the form of a task; None for what is not one."""
    if form == "label":
        label = label_text(value, classes)
        return label if isinstance(label, str) and label else None
    if form == "tags":
        tags = value.split() if isinstance(value, str) else value
        if not isinstance(tags, list) or not tags:
            return None
        found = [label_text(tag, classes) for tag in tags]
        return found if all(isinstance(tag, str) and tag for tag in found) else None
    if isinstance(value, Mapping):
        value = value.get("text")  # SQuAD's answers
    if isinstance(value, list):
        value = [one.get("text") if isinstance(one, Mapping) else one for one in value]
        if not value or not all(isinstance(one, str) for one in value):
            return None
        if form == "code":
            return "\n".join(value)
        value = [one for one in dict.fromkeys(value) if one.strip()]
    else:
        value = [value] if isinstance(value, str) else None
    if not value or not value[0].strip():
        return None
    return value if form == "texts" else value[0]


def label_values(records: Sequence[Record], settings: TaskSettings) -> list[str]:
    """The labels that the references of records have, sorted."""
    return sorted({label for one in records for label in settings.task.labels(one.reference)})
