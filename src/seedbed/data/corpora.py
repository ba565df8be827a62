"""Documents and labelled records from files, folders and the built-in corpora; exact duplicates removed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from seedbed.base.errors import DataError
from seedbed.data.builtin import builtin_texts
from seedbed.data.fields import missing_fields, record_fields, record_texts
from seedbed.data.files import NotUsable, builtin_name, read_text, source_files, unreadable
from seedbed.data.forms import LearnsFrom, expected, match
from seedbed.data.readers import Records, class_names, conll, is_conll, reader
from seedbed.data.recognition import recognised
from seedbed.data.settings import DataSettings


@dataclass(frozen=True)
class Document:
    """A text and its origin for messages: `notes.txt`, `train.jsonl:7`, `builtin:prose/ast.py`.

    `answer` is the answer or the labels of a labelled record. A conversation is a text: its messages as JSON.
    A part that is cut from the middle of a text does not end it. `file` is the one that it is from.
    """

    text: str
    origin: str
    answer: str | None = None
    ends: bool = True
    file: str = field(default="", compare=False)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the text and of the answer, if any."""
        answer = "" if self.answer is None else f"\0{self.answer}"
        return hashlib.sha256(f"{self.text}{answer}".encode()).digest()


@dataclass
class Reading:
    """What was read: files, skipped ones with the reason, documents, their duplicates, names of classes."""

    files: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    num_documents: int = 0
    num_duplicates: int = 0
    class_names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line, such as `read 1 file, 6,920 documents; skipped 1: notes.pdf (a PDF)`."""
        files, documents = len(self.files), self.num_documents
        parts = [f"read {files:,} {_plural('file', files)}, {documents:,} {_plural('document', documents)}"]
        if self.num_duplicates:
            parts.append(f"left out {self.num_duplicates:,} equal to one of them")
        if self.skipped:
            some = [f"{Path(name).name} ({reason})" for name, reason in islice(self.skipped.items(), 8)]
            more = ", ..." if len(self.skipped) > len(some) else ""
            parts.append(f"skipped {len(self.skipped):,}: {', '.join(some)}{more}")
        return "; ".join(parts)


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"


def read_documents(
    source: str | Path,
    settings: DataSettings | None = None,
    *,
    learns_from: LearnsFrom = "text",
    reading: Reading | None = None,
) -> Iterator[Document]:
    """The documents or labelled records of a source in a fixed order; texts have a visible character.

    A text file is one document, or one per part between separators; other forms have one per record. A
    folder is all its files but hidden ones, sorted; a file that has nothing of what is read is skipped and
    listed in `reading`. Any file may be compressed (.gz). Fields that `settings` do not name are recognised.
    An answer is a text; for labels one label; for tags one tag per word of the text, separated by blanks.
    Errors: DataError with the file and the line or byte that cannot be read, or the source without text.
    """
    settings = settings or DataSettings(train=str(source))
    settings = recognised(replace(settings, train=str(source)), learns_from)[0]
    reading = Reading() if reading is None else reading
    is_empty = True
    separator = settings.separator if learns_from == "text" else None
    for document in _read(source, settings, learns_from, reading):
        texts = [document.text] if separator is None else separator.split(document.text)
        for number, text in enumerate(texts, 1):
            if learns_from != "text" or (text and not text.isspace()):
                reading.num_documents += 1
                is_empty = False
                part = f"{document.origin} part {number}"
                yield document if len(texts) == 1 else Document(text, part, file=document.file)
    if is_empty:
        what = "text; give a file or folder with at least one document"
        if learns_from != "text":
            what = "record; give a file or folder with at least one"
        raise DataError(f"{source} has no {what}{f' ({reading})' if reading.skipped else ''}")


def deduplicate(
    documents: Iterable[Document], *, known: set[bytes] | None = None, reading: Reading | None = None
) -> Iterator[Document]:
    """Drop documents that came before or whose digest is in `known`; new digests are added to it."""
    seen = set() if known is None else known
    for document in documents:
        if document.digest not in seen:
            seen.add(document.digest)
            yield document
        elif reading is not None:
            reading.num_documents -= 1
            reading.num_duplicates += 1


def _read(
    source: str | Path, settings: DataSettings, learns_from: LearnsFrom, reading: Reading
) -> Iterator[Document]:
    if str(source).startswith("builtin:"):
        name = builtin_name(source)
        for part, text in builtin_texts(name):
            if learns_from != "text":
                raise DataError(_no_answer(f"{name}/{part}", learns_from))
            yield Document(text, f"{name}/{part}")
        reading.files.append(name)
        return
    files = source_files(source, include=settings.include, exclude=settings.exclude)
    is_folder = Path(source).is_dir()
    for file in files:
        is_begun = False
        try:
            for document in _file_documents(file, settings, learns_from, reading):
                is_begun = True
                yield document
            reading.files.append(str(file))
        except NotUsable as error:
            if is_begun or not is_folder:
                raise
            reading.skipped[str(file)] = error.reason
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(file, error) from error


def _file_documents(
    file: Path, settings: DataSettings, learns_from: LearnsFrom, reading: Reading
) -> Iterator[Document]:
    """The documents of a file; NotUsable before the first one if it has none that are read."""
    fields = record_fields(settings, learns_from)
    names = [each.name for each in fields]
    read = reader(file, settings.columns, [] if settings.form == "alpaca" else names)
    if read is not None:
        records = read()
    elif (text := read_text(file)) and not text.isspace():
        if learns_from == "text":
            yield Document(text, str(file), file=str(file))
            return
        records = _tagged(file, text, learns_from)
    else:
        records = iter(())
    is_empty = True
    for origin, record in records:
        if is_empty and isinstance(record, dict) and (absent := [n for n in names if n not in record]):
            own = match(record, learns_from)  # its own names of the same form
            if own is None or own.form.name != settings.form or not own.form.has(names):
                raise NotUsable(missing_fields(record, fields, origin), f"no field {absent[0]!r}")
            fields = [each._replace(name=name) for each, name in zip(fields, own.fields, strict=True)]
        if is_empty:
            reading.class_names = reading.class_names or class_names(file, fields[-1].name)
        is_empty = False
        texts = record_texts(record, fields, settings, learns_from, origin, reading.class_names)
        yield Document(*texts, file=str(file))
    if is_empty:
        what = "text" if learns_from == "text" else "record"
        raise NotUsable(f"{file} has no {what}; give a file or folder with at least one document", "empty")


def _tagged(file: Path, text: str, learns_from: LearnsFrom) -> Records:
    """The sentences of a text with tags; NotUsable for any other text, which has no answer."""
    if learns_from == "tags" and is_conll(file, text):
        return conll(file, text)
    raise NotUsable(_no_answer(file, learns_from), "a text without an answer")


def _no_answer(origin: str | Path, learns_from: LearnsFrom) -> str:
    """What to do about a text where records are expected."""
    return (
        f"{origin} is a text without an answer; give JSON Lines, JSON, CSV or Parquet with the fields "
        f"{expected(learns_from)}, or others (data.input, data.target)"
    )
