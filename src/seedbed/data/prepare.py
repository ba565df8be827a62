"""From a corpus to token shards, written once and found again by the fingerprint of their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from seedbed.base.errors import DataError
from seedbed.base.files import shared_folder
from seedbed.base.notices import Notify, silent
from seedbed.data.builtin import BUILTIN
from seedbed.data.corpora import Document, Reading, deduplicate, read_documents
from seedbed.data.files import source_files
from seedbed.data.forms import LearnsFrom
from seedbed.data.labels import (
    answer_labels,
    document_texts,
    encode_conversations,
    encode_labelled,
    encode_pairs,
    ordered_labels,
    read_labels,
    write_labels,
)
from seedbed.data.recognition import recognised
from seedbed.data.settings import DataSettings
from seedbed.data.shards import ShardWriter, TokenShard
from seedbed.text.tokenizer import Tokenizer, blocks

FORMAT = (
    1  # of shards, and of how documents are read, split and tokenized: raise it when one of these changes
)
SIDES = ("train", "validation")
# Characters that one call tokenizes on all cores; each of their tokens takes some 100 bytes of memory.
GROUP_CHARACTERS = 1 << 18
GROUP_RECORDS = 1024  # labelled ones that one call tokenizes


@dataclass(frozen=True, kw_only=True)
class CorpusShards:
    """The shards of a corpus; `fingerprint` is the SHA-256 of their files, settings and tokenizer.

    Labelled records have two more shards with the answers: tokens, or numbers of labels counted from 1.
    """

    train: TokenShard
    validation: TokenShard
    fingerprint: str
    train_answers: TokenShard | None = None
    validation_answers: TokenShard | None = None
    labels: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Bytes of the token ids on disk."""
        shards = (self.train, self.validation, self.train_answers, self.validation_answers)
        return sum(shard.tokens.nbytes for shard in shards if shard is not None)


def split_documents(
    settings: DataSettings, *, learns_from: LearnsFrom = "text", reading: Reading | None = None
) -> Iterator[tuple[Document, bool]]:
    """Each document or labelled record, and whether it is for validation; a validation file comes first.

    Without such a file the hash of a document decides, whatever its order and the other documents. With
    `deduplicate`, a training document that equals a validation one is left out.
    """
    known: set[bytes] = set()

    def documents(source: str) -> Iterator[Document]:
        found = read_documents(source, settings, learns_from=learns_from, reading=reading)
        return deduplicate(found, known=known, reading=reading) if settings.deduplicate else found

    settings = recognised(settings, learns_from)[0]  # of the training data, for both sides

    if settings.validation is not None:
        yield from ((document, True) for document in documents(settings.validation))
    for document in documents(settings.train):
        yield document, settings.validation is None and document.split_key < settings.validation_fraction


def training_texts(
    settings: DataSettings, *, learns_from: LearnsFrom = "text", reading: Reading | None = None
) -> Iterator[str]:
    """The training texts for a tokenizer, and their answers where these are texts."""
    empty = True
    for document, validates in split_documents(settings, learns_from=learns_from, reading=reading):
        if not validates:
            empty = False
            yield from document_texts(document, learns_from)
    if empty:
        raise DataError(_empty_side(settings, learns_from))


def source_fingerprint(settings: DataSettings) -> str:
    """SHA-256 of the settings that select the documents and of every file that they are read from."""
    # Paths do not count: a moved file is the same data. The names of built-in corpora do.
    named = {
        k: v if v is None or v in BUILTIN else "files" for k, v in asdict(settings).items() if k in SIDES
    }
    digest = hashlib.sha256(json.dumps([FORMAT, asdict(settings) | named], sort_keys=True).encode())
    for source in filter(None, (settings.train, settings.validation)):
        for file in source_files(source, include=settings.include, exclude=settings.exclude):
            digest.update(f"\0{file.name}\0".encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def shards_folder(run: Path) -> Path:
    """The folder beside a run that has the shards of all runs there: equal ones are shared."""
    return Path(os.path.abspath(run)).parent / ".shards"


def shards_of(folder: Path, fingerprint: str) -> Path:
    """The folder of the shards with this fingerprint."""
    return folder / fingerprint[:32]


def prepare_shards(
    settings: DataSettings,
    tokenizer: Tokenizer,
    folder: Path | str,
    *,
    learns_from: LearnsFrom = "text",
    head_labels: Sequence[str] = (),
    source: str | None = None,
    notify: Notify = silent,
) -> CorpusShards:
    """Tokenize a corpus into the shards `train` and `validation`, in a subfolder of `folder`.

    Existing shards are verified, every byte of them (0.3 s for 100 million tokens), and written again if
    damaged; other processes that need the same shards wait.

    A document ends with the tokenizer's end token if it has one. The answers of labelled records are in
    shards of their own, `train_answers` and `validation_answers`; neither inputs nor answers get an end
    token. Labels are those of the training records, in the order of `head_labels` if these are the same.
    `source` is the `source_fingerprint` if it is known already. Errors: DataError if one side of the split
    is empty.
    """
    has_labels = learns_from in ("labels", "tags")
    source = source or source_fingerprint(settings)
    content = f"{source} {tokenizer.fingerprint} {tokenizer.eos_id}"
    content += "" if learns_from == "text" else f" {learns_from}"
    content += f" {list(head_labels)}" if has_labels and head_labels else ""
    fingerprint = hashlib.sha256(content.encode()).hexdigest()

    def write(aside: Path) -> None:
        notify(f"tokenizing {settings.train}")
        reading = Reading()
        if learns_from == "text":
            _write_texts(settings, tokenizer, aside, reading)
        else:
            labels = _labels(settings, learns_from, head_labels) if has_labels else ()
            _write_pairs(settings, tokenizer, aside, learns_from, labels, reading)
        notify(str(reading))
        if source_fingerprint(settings) != source:  # the files were read a second time
            raise DataError(
                f"the files of {settings.train} changed while they were read; run the same command again "
                "when they are complete"
            )

    names = [*SIDES, *(f"{side}_answers" for side in SIDES if learns_from != "text")]
    home = shards_of(Path(folder), fingerprint)
    with shared_folder(home, write):
        shards = {name: TokenShard.open(home / name) for name in names}
        labels = read_labels(home) if has_labels else ()
    return CorpusShards(**shards, fingerprint=fingerprint, labels=labels)


def _labels(settings: DataSettings, learns_from: LearnsFrom, head_labels: Sequence[str]) -> tuple[str, ...]:
    """The labels of the training records."""
    found, reading = set[str](), Reading()
    for document, validates in split_documents(settings, learns_from=learns_from, reading=reading):
        if not validates:
            found.update(answer_labels(document, learns_from))
    if not found:
        raise DataError(_empty_side(settings, learns_from))
    class_names = reading.class_names
    return ordered_labels(found, settings.train, head_labels=head_labels, class_names=class_names)


@contextmanager
def _shard_writers(
    settings: DataSettings, learns_from: LearnsFrom, folder: Path, sizes: Mapping[str, int]
) -> Iterator[dict[str, ShardWriter]]:
    """Writers for both sides of the split, one for each ending of `sizes` with this vocabulary size."""
    with ExitStack() as stack:
        writers = {
            f"{side}{ending}": stack.enter_context(ShardWriter(folder / f"{side}{ending}", vocab_size=size))
            for side in SIDES
            for ending, size in sizes.items()
        }
        yield writers
        if not all(writer.num_documents for writer in writers.values()):
            raise DataError(_empty_side(settings, learns_from))
        for writer in writers.values():
            writer.close()


def _write_pairs(
    settings: DataSettings,
    tokenizer: Tokenizer,
    folder: Path,
    learns_from: LearnsFrom,
    labels: tuple[str, ...],
    reading: Reading,
) -> None:
    """Write the shards of labelled records, an answer for each input, and the labels."""
    num_answers = {"pairs": tokenizer.vocab_size, "conversations": 2}.get(learns_from, len(labels) + 1)
    sizes = {"": tokenizer.vocab_size, "_answers": num_answers}
    records = split_documents(settings, learns_from=learns_from, reading=reading)
    with _shard_writers(settings, learns_from, folder, sizes) as writers:
        while group := list(islice(records, GROUP_RECORDS)):
            documents = [document for document, _ in group]
            if labels:
                rows = encode_labelled(documents, tokenizer, labels, learns_from)
            elif learns_from == "pairs":
                rows = encode_pairs(documents, tokenizer)
            else:
                rows = encode_conversations(documents, tokenizer)
            for (_, validates), row in zip(group, rows, strict=True):
                for ending, ids in zip(sizes, row, strict=True):
                    writer = writers[f"{SIDES[validates]}{ending}"]
                    writer.append(ids)
                    writer.end_document(keep_empty=True)
    if labels:
        write_labels(folder, labels)


def _write_texts(settings: DataSettings, tokenizer: Tokenizer, folder: Path, reading: Reading) -> None:
    """Write the two shards of documents of text, each ended by the end token."""
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    with _shard_writers(settings, "text", folder, {"": tokenizer.vocab_size}) as writers:
        for group in _groups(split_documents(settings, reading=reading)):
            encoded = tokenizer.encode_batch([block for block, _, _ in group])
            for (block, validates, is_last), ids in zip(group, encoded, strict=True):
                writer = writers[SIDES[validates]]
                writer.append([*ids, *end] if is_last else ids, num_bytes=len(block.encode()))
                if is_last:
                    writer.end_document()


def _groups(documents: Iterable[tuple[Document, bool]]) -> Iterator[list[tuple[str, bool, bool]]]:
    """Blocks of text, each with whether it is for validation and whether it ends a document."""
    group: list[tuple[str, bool, bool]] = []
    num_characters = 0
    for document, validates in documents:
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


def _empty_side(settings: DataSettings, learns_from: LearnsFrom) -> str:
    """What to do if the split leaves one of its sides empty; the documents are read again for it."""
    if settings.validation is not None:
        return (
            f"every document of {settings.train} is in {settings.validation} too; give other validation data"
        )
    keys = sorted(document.split_key for document, _ in split_documents(settings, learns_from=learns_from))
    if len(keys) == 1:
        return (
            f"{settings.train} is one document, so none can be held out: give data.validation=FILE, or split "
            'it into documents with data.document_separator, at blank lines with "\\n\\n"'
        )
    tenth = keys[len(keys) // 10]  # a tenth of the documents is below
    return (
        f"data.validation_fraction={settings.validation_fraction} puts all {len(keys)} documents of "
        f"{settings.train} on one side of the split, which depends on their hashes: choose "
        f"{tenth + 0.005:.2f}, or give data.validation=FILE"
    )
