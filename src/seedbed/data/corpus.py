"""The documents or labelled records of the `[data]` settings, each for training or held out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from seedbed.base.errors import DataError
from seedbed.data.corpora import Document, Reading, deduplicate, read_documents
from seedbed.data.files import source_files
from seedbed.data.forms import LearnsFrom
from seedbed.data.labels import answer_labels, document_texts, ordered_labels
from seedbed.data.recognition import recognised
from seedbed.data.settings import DataSettings
from seedbed.data.split import Split, content_hash, find_split


class Corpus:
    """What is read, time and again; what is held out of it is found once, in further readings.

    `reading` is what the last reading of all documents found. `read` gives the documents of a source in place
    of `read_documents`, each with its file.
    """

    def __init__(
        self,
        settings: DataSettings,
        *,
        learns_from: LearnsFrom = "text",
        read: Callable[[str], Iterator[Document]] | None = None,
    ) -> None:
        self.settings, self.learns_from, self.read = settings, learns_from, read
        self.reading = Reading()

    def documents(self) -> Iterator[tuple[Document, bool]]:
        """Each document or labelled record, and whether it is for validation; a validation file comes first.

        Without such a file the split decides, and long documents come in parts. With `deduplicate`, a
        training document that equals another one or one of validation is left out.
        """
        split = self.split
        self.reading, known = Reading(), set[bytes]()
        if self.settings.validation is not None:
            yield from ((document, True) for document in self._read(self.settings.validation, known))
        for document in self._read(self.settings.train, known):
            yield from split.parts(document)

    def training_texts(self) -> Iterator[str]:
        """The training texts for a tokenizer, and their answers where these are texts."""
        empty = True
        for document, validates in self.documents():
            if not validates:
                empty = False
                yield from document_texts(document, self.learns_from)
        if empty:
            raise self.without(validation=False)

    def labels(self, head_labels: Sequence[str] = ()) -> tuple[str, ...]:
        """The labels of the training records, in the order of a head that has the same."""
        if not (found := set(self._last_hashes)):
            raise self.without(validation=False)
        names = self.reading.class_names
        return ordered_labels(found, self.settings.train, head_labels=head_labels, class_names=names)

    @cached_property
    def split(self) -> Split:
        """What is held out of the training data; a label's last record is not."""
        settings = self.settings
        if settings.validation is not None or not settings.validation_fraction:
            return Split()
        last = self._last_hashes.values() if self.learns_from in ("labels", "tags") else ()
        is_text = self.learns_from == "text"
        share = settings.validation_fraction
        found = find_split(self._training, share, cuts=is_text, last=last, key=self.key)
        if found is None:
            raise self.without(validation=True)
        return found

    @cached_property
    def _last_hashes(self) -> dict[str, int]:
        """For each label of the training data the greatest hash of a record that has it."""
        self.reading = Reading()
        found: dict[str, int] = {}
        for document in self._training():
            hashed = content_hash(self.key(document))
            for label in answer_labels(document, self.learns_from):
                found[label] = max(found.get(label, 0), hashed)
        return found

    def key(self, document: Document) -> str:
        """What decides the side of a record: its input, whatever the answer; what the assistant is asked."""
        if self.learns_from != "conversations":
            return document.text
        turns = json.loads(document.text)
        return "\n".join(str(turn.get("content")) for turn in turns if turn.get("role") != "assistant")

    def _training(self) -> Iterator[Document]:
        """The documents of the training data, without those of validation."""
        known = set[bytes]()
        if self.settings.validation is not None and self.settings.deduplicate:
            for _ in self._read(self.settings.validation, known):
                pass
        return self._read(self.settings.train, known)

    @cached_property
    def _recognised(self) -> DataSettings:
        """The settings with the fields of the training data, which are those of both sides."""
        return recognised(self.settings, self.learns_from)[0]

    def _read(self, source: str, known: set[bytes]) -> Iterator[Document]:
        """The documents of a source; with `deduplicate` without the `known` ones, which become more."""
        reading = self.reading
        if self.read is not None:
            found = self._counted(self.read(source), source, reading)
        else:
            found = read_documents(source, self._recognised, learns_from=self.learns_from, reading=reading)
        return deduplicate(found, known=known, reading=reading) if self.settings.deduplicate else found

    def _counted(self, documents: Iterator[Document], source: str, reading: Reading) -> Iterator[Document]:
        """The documents of a source, counted with their files; a file without any is skipped."""
        files = dict[str, None]()
        for document in documents:
            reading.num_documents += 1
            files[document.file] = None
            yield document
        reading.files += files
        settings = self.settings
        every = map(str, source_files(source, include=settings.include, exclude=settings.exclude))
        reading.skipped |= {file: "no record of the task" for file in every if file not in files}

    def facts(self) -> dict[str, Any]:
        """What the last reading found, for machines."""
        files, skipped = len(self.reading.files), list(self.reading.skipped)
        return {"files_read": files, "files_skipped": skipped, "duplicates": self.reading.num_duplicates}

    def require_held_out(self) -> None:
        """Raise DataError if the settings hold nothing out."""
        if self.settings.validation is None and not self.settings.validation_fraction:
            raise DataError(
                "data.validation_fraction=0 holds nothing out, and a run needs held-out data: choose 0.05, "
                "or give data.validation=FILE"
            )

    def without(self, *, validation: bool) -> DataError:
        """The error for data of which nothing is for one of the sides; it says what to do."""
        train, held_out = self.settings.train, self.settings.validation
        if held_out is not None:
            problem = f"every document of {train} is in {held_out} too"
            if validation:
                problem = f"no document of {held_out} has a token"
            return DataError(f"{problem}; give other validation data")
        problem = f"no part of {train} can be held out: it has too little text"
        if self.learns_from != "text":
            problem = f"no record of {train} can be held out: each is the only one, of its label at least"
        return DataError(f"{problem}; give more data, or data.validation=FILE")
