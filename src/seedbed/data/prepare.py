"""From a corpus to the token shards of a run, made once and found again by what decides their content."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from seedbed.base.errors import ConfigError, DataError
from seedbed.base.files import write_file
from seedbed.data.builtin import BUILTIN
from seedbed.data.corpora import Document, deduplicate, read_documents, source_files
from seedbed.data.shards import ShardWriter, TokenShard
from seedbed.text.tokenizer import Tokenizer, blocks

FORMAT = (
    1  # of the shards, and of how documents are read, cut and tokenized: counts up when one of them changes
)
PREPARED = "fingerprint"
SIDES = ("train", "validation")
# Characters that one call tokenizes on all cores; memory holds some 100 bytes for each of their tokens.
GROUP_CHARACTERS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is learnt from and what is held out: any source that `read_documents` takes."""

    train: str
    validation: str | None = None  # None: split from train by the hash of each document
    validation_fraction: float = 0.05  # 0: nothing is held out, for a tokenizer alone
    text_field: str = "text"  # of a JSON or Parquet record
    document_separator: str | None = None  # cuts every text into documents, "\n\n" at blank lines
    deduplicate: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(f"data.validation_fraction={self.validation_fraction}: choose one from 0 to 1")
        if self.document_separator == "":
            raise ConfigError(
                "data.document_separator is empty; leave it out, or give the text between documents"
            )


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """The two shards of a run; `fingerprint` is SHA-256 of what decides them: files, settings, tokenizer."""

    train: TokenShard
    validation: TokenShard
    fingerprint: str


def split_documents(settings: DataSettings) -> Iterator[tuple[Document, bool]]:
    """Each document with whether it validates, validation's own file first.

    Without such a file a document's own hash decides: neither the order nor other documents do. With
    `deduplicate`, a training document that equals a validation one is left out.
    """
    known: set[bytes] = set()

    def documents(source: str) -> Iterator[Document]:
        found = read_documents(source, text_field=settings.text_field, separator=settings.document_separator)
        return deduplicate(found, known=known) if settings.deduplicate else found

    if settings.validation is not None:
        yield from ((document, True) for document in documents(settings.validation))
    for document in documents(settings.train):
        yield document, settings.validation is None and document.place < settings.validation_fraction


def training_texts(settings: DataSettings) -> Iterator[str]:
    """What a tokenizer may be trained on: the texts that do not validate."""
    places = array("d")
    empty = True
    for document, validates in split_documents(settings):
        places.append(document.place)
        if not validates:
            empty = False
            yield document.text
    if empty:
        raise DataError(_empty_side(settings, places))


def source_fingerprint(settings: DataSettings) -> str:
    """SHA-256 of the settings that decide the documents and of every file they are read from."""
    # A path does not decide anything, so that a moved file is the same data; a built-in corpus' name does.
    named = {
        k: v if v is None or v in BUILTIN else "files" for k, v in asdict(settings).items() if k in SIDES
    }
    digest = hashlib.sha256(json.dumps([FORMAT, asdict(settings) | named], sort_keys=True).encode())
    for source in filter(None, (settings.train, settings.validation)):
        for file in source_files(source):
            digest.update(f"\0{file.name}\0".encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def prepare(settings: DataSettings, tokenizer: Tokenizer, folder: Path | str) -> PreparedData:
    """Tokenize a corpus into the shards `folder`/train and `folder`/validation, unless they are there.

    A document ends with the tokenizer's end token if it has one. A DataError says what to do where one side
    of the split is empty.
    """
    folder = Path(folder)
    decides = f"{source_fingerprint(settings)} {tokenizer.fingerprint} {tokenizer.eos_id}"
    fingerprint = hashlib.sha256(decides.encode()).hexdigest()
    note = folder / PREPARED
    if not (note.is_file() and note.read_text(encoding="utf-8").strip() == fingerprint):
        note.unlink(missing_ok=True)
        _write_shards(settings, tokenizer, folder)
        write_file(note, f"{fingerprint}\n".encode())
    train, validation = TokenShard.open(folder / "train"), TokenShard.open(folder / "validation")
    return PreparedData(train=train, validation=validation, fingerprint=fingerprint)


def _write_shards(settings: DataSettings, tokenizer: Tokenizer, folder: Path) -> None:
    vocab_size = tokenizer.vocab_size
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    places = array("d")
    with (
        ShardWriter(folder / "train", vocab_size=vocab_size) as train,
        ShardWriter(folder / "validation", vocab_size=vocab_size) as validation,
    ):
        for group in _groups(split_documents(settings), places):
            encoded = tokenizer.encode_batch([block for block, _, _ in group])
            for (block, validates, is_last), ids in zip(group, encoded, strict=True):
                writer = validation if validates else train
                writer.append([*ids, *end] if is_last else ids, num_bytes=len(block.encode()))
                if is_last:
                    writer.end_document()
        if not train.num_documents or not validation.num_documents:
            raise DataError(_empty_side(settings, places))
        train.close()
        validation.close()


def _groups(
    documents: Iterable[tuple[Document, bool]], places: array[float]
) -> Iterator[list[tuple[str, bool, bool]]]:
    """Blocks of text, each with whether it validates and whether it ends a document; notes `places`."""
    group: list[tuple[str, bool, bool]] = []
    num_characters = 0
    for document, validates in documents:
        places.append(document.place)
        num_left = len(document.text)
        for block in blocks(document.text):
            num_left -= len(block)
            num_characters += len(block)
            group.append((block, validates, not num_left))
            if num_characters >= GROUP_CHARACTERS:
                yield group
                group, num_characters = [], 0
    if group:
        yield group


def _empty_side(settings: DataSettings, places: array[float]) -> str:
    """What to do where the split leaves nothing to train on or to validate with."""
    if settings.validation is not None:
        return (
            f"every document of {settings.train} is in {settings.validation} too; give other validation data"
        )
    if len(places) == 1:
        return (
            f"{settings.train} is one document, so none can be held out: give data.validation=FILE, or cut "
            'it into documents with data.document_separator, at blank lines with "\\n\\n"'
        )
    some = sorted(places)[len(places) // 10]  # a tenth of the documents lies below
    return (
        f"data.validation_fraction={settings.validation_fraction} puts all {len(places)} documents of "
        f"{settings.train} on one side of the split, which their hashes decide: choose {some + 0.005:.2f}, "
        "or give data.validation=FILE"
    )
