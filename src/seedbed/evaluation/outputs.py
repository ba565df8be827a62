"""Files of outputs and references of any system: lines of text, JSON Lines, tables, or CoNLL columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from seedbed.base.arguments import brief, path_of
from seedbed.base.errors import DataError
from seedbed.data.files import suffix
from seedbed.data.readers import LINE_END, TABLES, reader
from seedbed.evaluation.metrics.table import Form

JSON_LINES = (".jsonl", ".ndjson", ".json")
# The fields of an object that an output, or its references, are read from; the first that it has.
OUTPUTS = ("prediction", "predicted", "output", "text", "label", "tags")
REFERENCES = (
    *("references", "reference", "target", "answers", "answer", "summary", "label", "tags"),
    *("translation", "completion", "test", "tests", "test_list"),
)
EXPECTED = {"texts": "text", "text": "text", "code": "a text", "label": "a label", "tags": "a list of tags"}


def read_outputs(
    path: Path | str, form: Form, *, are_references: bool = False, field: str | None = None
) -> list[Any]:
    """The outputs of a file in its order: texts, labels, or lists of tags; of references, lists of texts.

    By the ending of its name it has JSON Lines (a value, or an object with `field` or one of OUTPUTS or
    REFERENCES in each line), a table with such a column, or else lines of text; tags are in CoNLL columns,
    the last one, with a blank line between texts. Errors: DataError naming file and line.
    """
    path = path_of("file", path)
    names = REFERENCES if are_references else OUTPUTS
    names = (field, *names) if field is not None and are_references else names
    if suffix(path) in (*TABLES, ".parquet") and path.is_file():
        records = reader(path)
        assert records is not None
        found = [_output(row, place, form, names) for place, row in records()]
    else:
        found = list(_lines_of(path, form, names))
    if not found:
        raise DataError(f"{path} has no output; write one in each line")
    if form != "texts" or not are_references:
        return found
    return [[one] if isinstance(one, str) else one for one in found]


def _lines_of(path: Path, form: Form, names: tuple[str, ...]) -> Iterable[Any]:
    """The outputs of a file of lines."""
    try:
        lines = LINE_END.split(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give a file of outputs") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at offset {error.start}; save it as UTF-8") from None
    lines = lines[:-1] if not lines[-1] else lines
    if path.suffix.lower() in JSON_LINES:
        return [_value(line, f"{path}:{n}", form, names) for n, line in enumerate(lines, 1) if line.strip()]
    if form == "tags":
        return _columns(lines)
    return [line.strip() if form == "label" else line for line in lines]


def _value(line: str, place: str, form: Form, names: tuple[str, ...]) -> Any:
    """The output of a line of JSON; DataError where it has none of the form."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{place} is not JSON; write a value or an object in each line") from None
    return _output(value, place, form, names)


def _output(value: Any, place: str, form: Form, names: tuple[str, ...]) -> Any:
    """The output of a value or of an object."""
    if isinstance(value, dict):
        name = next((name for name in names if name in value), None)
        if name is None:
            raise DataError(f"{place} has none of the fields {', '.join(names)}; name one so")
        value = value[name]
        value = value.get("text", value) if isinstance(value, dict) else value  # SQuAD's answers
    if form == "code" and isinstance(value, list):
        value = "\n".join(map(str, value))
    is_list = isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
    if form == "tags" and is_list:
        return value
    if form == "label" and isinstance(value, str | int | float | bool):
        return value.strip() if isinstance(value, str) else json.dumps(value)
    if form in ("texts", "text", "code") and (isinstance(value, str) or (is_list and REFERENCES[0] in names)):
        return value
    raise DataError(f"{place} has {brief(value)}, expected is {EXPECTED[form]}; correct it")


def _columns(lines: list[str]) -> Iterator[list[str]]:
    """The tags of each text: the last column of its lines."""
    tags: list[str] = []
    for line in [*lines, ""]:
        columns = line.split()
        if columns and columns[0] != "-DOCSTART-":
            tags.append(columns[-1])
        elif tags:
            yield tags
            tags = []
