"""Documents from files, folders and the built-in corpora, and the removal of exact duplicates."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import importlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from seedbed.base.errors import DataError, UsageError, nearest
from seedbed.data.builtin import BUILTIN, builtin_files, builtin_texts

COMPRESSED = ".gz"
LearnsFrom = Literal["text", "pairs", "labels", "tags"]
Content = Literal["text", "one label", "words"]


class Field(NamedTuple):
    """A field of a record, the setting that names it, and its content.

    A label may also be an integer, and words may be a list: both are converted to a text.
    """

    name: str
    setting: str
    content: Content = "text"


# The contents of the two fields of a labelled record.
CONTENTS: dict[LearnsFrom, tuple[Content, Content]] = {
    "pairs": ("text", "text"),
    "labels": ("text", "one label"),
    "tags": ("words", "words"),
}


@dataclass(frozen=True)
class Document:
    """A text and its origin for messages: `notes.txt`, `train.jsonl:7`, `builtin:prose/ast.py`.

    `answer` is the answer or the labels of a labelled record.
    """

    text: str
    origin: str
    answer: str | None = None

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the text and of the answer, if any."""
        answer = "" if self.answer is None else f"\0{self.answer}"
        return hashlib.sha256(f"{self.text}{answer}".encode()).digest()

    @cached_property
    def split_key(self) -> float:
        """A number in [0, 1) that depends on the content alone, uniform over many documents."""
        return int.from_bytes(self.digest[:6]) / 2**48


def read_documents(
    source: str | Path, *, text_field: str = "text", separator: str | None = None
) -> Iterator[Document]:
    """The documents of a source in a fixed order, without those that have no visible character.

    A text file is one document, or one per part between `separator`s; a JSON Lines, JSON or Parquet file has
    one per record, its field `text_field`; a folder is all its files but hidden ones, sorted; any file but
    Parquet may be compressed (.gz); `builtin:prose` and `builtin:code` need no file. Errors: DataError with
    the file and the line or byte that cannot be read, or the source without text.
    """
    empty = True
    for document in _read(source, Field(text_field, "data.text_field")):
        texts = [document.text] if separator is None else document.text.split(separator)
        for number, text in enumerate(texts, 1):
            if text and not text.isspace():
                empty = False
                yield document if len(texts) == 1 else Document(text, f"{document.origin} part {number}")
    if empty:
        raise DataError(f"{source} has no text; give a file or folder with at least one document")


def read_pairs(
    source: str | Path, *, fields: tuple[str, str], learns_from: LearnsFrom = "pairs"
) -> Iterator[Document]:
    """The labelled records of JSON Lines, JSON or Parquet files, in a fixed order; `fields`: text and answer.

    The answer is a text; for `labels` one label; for `tags` one tag per word of the text, separated by
    blanks. Errors: DataError with the file and the line of a record that lacks one of the two.
    """
    empty = True
    for document in _read(source, *map(Field, fields, ("data.input", "data.target"), CONTENTS[learns_from])):
        if document.answer is None:
            raise DataError(
                f"{document.origin} is a text without an answer; give JSON Lines, JSON or Parquet with the "
                f"fields {fields[0]} and {fields[1]} (data.input, data.target)"
            )
        empty = False
        yield document
    if empty:
        raise DataError(f"{source} has no record; give a file or folder with at least one")


def source_files(source: str | Path) -> list[Path]:
    """The files of a source in reading order; DataError if there is none."""
    if str(source).startswith("builtin:"):
        return builtin_files(builtin_name(source))
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = ((file, file.relative_to(path).parts) for file in path.rglob("*"))
        files = [file for file, parts in inside if file.is_file() and not any(p[0] == "." for p in parts)]
        if not files:
            raise DataError(
                f"the folder {path} has no file; give a folder with text, JSON Lines or Parquet files"
            )
        return sorted(files, key=lambda file: file.relative_to(path).as_posix())
    if path.exists():
        raise DataError(f"{path} is neither a file nor a folder; give one of them")
    if not path.parent.is_dir():
        raise DataError(f"{path} does not exist, nor does its folder {path.parent}; give a file that exists")
    near = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], cutoff=0.3)
    hint = (
        f"similar names: {', '.join(near)}" if near else f"give a file that exists, or {' or '.join(BUILTIN)}"
    )
    raise DataError(f"{path} does not exist; {hint}")


def builtin_name(source: str | Path) -> str:
    """The name of a built-in corpus; DataError if there is no such corpus."""
    if str(source) not in BUILTIN:
        raise DataError(f"no corpus is named {str(source)!r}; {nearest(str(source), BUILTIN)}")
    return str(source)


def _read(source: str | Path, *fields: Field) -> Iterator[Document]:
    if str(source).startswith("builtin:"):
        name = builtin_name(source)
        for part, text in builtin_texts(name):
            yield Document(text, f"{name}/{part}")
        return
    for file in source_files(source):
        kind = Path(file.name.removesuffix(COMPRESSED)).suffix.lower()
        try:
            if kind in (".jsonl", ".ndjson"):
                yield from _json_lines(file, fields)
            elif kind == ".json":
                yield from _json_array(file, fields)
            elif kind == ".parquet":
                yield from _parquet(file, fields)
            else:
                yield Document(_decode(_content(file), file), str(file))
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"{file} cannot be read: {reason}; check that it is complete and that you may read it"
            ) from error


def _content(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes()) if file.suffix == COMPRESSED else file.read_bytes()


def _decode(raw: bytes, file: Path) -> str:
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8: byte 0x{raw[error.start]:02X} at offset {error.start}; "
            "save it as UTF-8, or leave it out"
        ) from error


def _document(record: Any, fields: Sequence[Field], origin: str) -> Document:
    """The document of one record: its text, and its answer if there is a second field."""
    texts = [_text(record, field, origin) for field in fields]
    return Document(texts[0], origin, *texts[1:])


def _text(record: Any, field: Field, origin: str) -> str:
    """The text in a field of a record; DataError with the origin for any other content."""
    name, setting = field.name, field.setting
    if not isinstance(record, dict):
        raise DataError(f"{origin}: expected an object with the field {name!r}, got {type(record).__name__}")
    if name not in record:
        raise DataError(f"{origin}: no field {name!r}; set {setting}; {nearest(name, map(str, record))}")
    text = record[name]
    if field.content == "words" and isinstance(text, list):
        text = _joined(text, name, origin)
    if field.content == "one label" and type(text) is int:
        text = str(text)
    if not isinstance(text, str):
        raise DataError(
            f"{origin}: the field {name!r} is {type(text).__name__}, not {field.content}; set {setting}"
        )
    if field.content == "one label" and not text.strip():
        raise DataError(f"{origin}: the field {name!r} is empty; give a label, or leave the record out")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            code = f"\\u{ord(text[error.start]):04x}"
            raise DataError(f"{origin}: the lone surrogate {code} is not a character; remove it") from error
    return text


def _joined(words: list[Any], name: str, origin: str) -> str:
    """Join words or tags, integers among them, with blanks."""
    texts = [str(word) if type(word) is int else word for word in words]
    for number, word in enumerate(texts, 1):
        if not isinstance(word, str) or len(word.split()) != 1 or word != word.strip():
            raise DataError(
                f"{origin}: number {number} of the field {name!r} is {str(word)[:40]!r}, not one word; give "
                "words without blanks"
            )
    return " ".join(texts)


def _json_lines(file: Path, fields: Sequence[Field]) -> Iterator[Document]:
    with gzip.open(file) if file.suffix == COMPRESSED else file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            origin = f"{file}:{number}"
            yield _document(_parse(line.rstrip(b"\r\n"), origin), fields, origin)


def _json_array(file: Path, fields: Sequence[Field]) -> Iterator[Document]:
    records = _parse(_content(file), str(file))
    for number, record in enumerate(records if isinstance(records, list) else [records], 1):
        yield _document(record, fields, f"{file} record {number}")


def _parse(raw: bytes, origin: str) -> Any:
    try:
        return json.loads(raw)
    except UnicodeDecodeError as error:
        raise DataError(f"{origin} is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if isinstance(error, json.JSONDecodeError) and error.doc.rstrip("\n").count("\n") == 0:
            reason = f"{error.msg} at column {error.colno}"  # `origin` has the line of the file
        raise DataError(f"{origin} is not JSON ({reason}); correct or remove it") from error


def _parquet(file: Path, fields: Sequence[Field]) -> Iterator[Document]:
    try:
        pyarrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(
            f"{file} is a Parquet file: install the extra `data`: pip install 'seedbed[data]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            names = [field.name for field in fields]
            columns = names if {*names} <= {*table.schema_arrow.names} else None
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield _document(record, fields, f"{file} row {number}")
    except (ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{file} is not a readable Parquet file: {error}; write it again") from error


def deduplicate(documents: Iterable[Document], *, known: set[bytes] | None = None) -> Iterator[Document]:
    """Drop documents that came before or whose digest is in `known`; new digests are added to it."""
    seen = set() if known is None else known
    for document in documents:
        if document.digest not in seen:
            seen.add(document.digest)
            yield document
