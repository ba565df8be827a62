"""From a corpus to token shards, written once and found again by the fingerprint of their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import DataError
from seedbed.base.files import shared_folder, write_file
from seedbed.base.notices import Notify, silent
from seedbed.data.builtin import BUILTIN
from seedbed.data.corpus import Corpus
from seedbed.data.files import source_files
from seedbed.data.forms import LearnsFrom
from seedbed.data.labels import (
    document_texts,
    encode_conversations,
    encode_labelled,
    encode_pairs,
    read_labels,
    template_content,
    write_labels,
)
from seedbed.data.mixture import Groups, read_groups
from seedbed.data.overlap import WORTH_A_WARNING, Overlap
from seedbed.data.settings import DataSettings
from seedbed.data.shards import ShardWriter, TokenShard
from seedbed.text.tokenizer import Tokenizer, blocks

FORMAT = (
    2  # of shards, and of how documents are read, split and tokenized: raise it when one of these changes
)
SIDES = ("train", "validation")
# Characters that one call tokenizes on all cores; each of their tokens takes some 100 bytes of memory.
GROUP_CHARACTERS = 1 << 18
ITEM_CHARACTERS = 64  # that take about the memory of one more document or record
ENOUGH_HELD_OUT = {"tokens": 10_000, "documents": 50}  # for an interval that says something
DATA = "data.json"  # what was read, beside the shards, and all of it in the folder of a run
Item = TypeVar("Item")


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
    groups: tuple[str, ...] = ()  # the tasks of a mixture
    train_groups: NDArray[np.int32] | None = None  # (num_documents,), the number of the task of each record
    learns_from: LearnsFrom = "text"
    reading: Mapping[str, Any] = field(default_factory=dict)  # what `Corpus.facts` returns

    def facts(self) -> dict[str, Any]:
        """What was read, and the sizes of both sides, of texts and of answers that are texts."""
        sizes: dict[str, Any] = {}
        answers = (self.train_answers, self.validation_answers)
        for side, inputs, answer in zip(SIDES, (self.train, self.validation), answers, strict=True):
            tokens = inputs.num_tokens
            if answer is not None and self.learns_from == "pairs":
                tokens += answer.num_tokens
            sizes |= {f"{side}_documents": inputs.num_documents, f"{side}_bytes": inputs.num_bytes}
            sizes[f"{side}_tokens"] = tokens
        return sizes | dict(self.reading) | {"warning": self._warning(sizes)}

    def _warning(self, sizes: Mapping[str, int]) -> str:
        """What to do about a held-out part that flatters, or is too small for its interval; else empty."""
        if (share := self.reading.get("overlap", 0.0)) > WORTH_A_WARNING:
            what = "lines of text" if self.learns_from == "text" else "records"
            return (
                f"{share:.0%} of the held-out {what} are also in the training part, so the held-out figures "
                "flatter: remove what repeats, or give data.validation=FILE"
            )
        key, what = ("tokens", "tokens of text") if self.learns_from == "text" else ("documents", "records")
        count, enough = sizes[f"validation_{key}"], ENOUGH_HELD_OUT[key]
        if count >= enough:
            return ""
        return (
            f"{count:,} held-out {what} are too few for a useful figure, {enough:,} are enough: add data, "
            "raise data.validation_fraction, or give data.validation=FILE"
        )

    def label_counts(self) -> dict[str, list[int]]:
        """How often each label is in the training and in the held-out part; empty without labels."""
        if not self.labels or self.train_answers is None or self.validation_answers is None:
            return {}
        sides = (self.train_answers, self.validation_answers)
        most = len(self.labels) + 1  # 0: no label
        train, held = (np.bincount(side.tokens, minlength=most)[1:].tolist() for side in sides)
        return {label: [*counts] for label, *counts in zip(self.labels, train, held, strict=True)}

    @property
    def num_bytes(self) -> int:
        """Bytes of the token ids on disk."""
        shards = (self.train, self.validation, self.train_answers, self.validation_answers)
        return sum(shard.tokens.nbytes for shard in shards if shard is not None)


def source_fingerprint(settings: DataSettings, rendering: str = "") -> str:
    """SHA-256 of the settings that select the documents and of every file that they are read from.

    `rendering` says how records become documents, where these are those of a task. The weights of a mixture
    do not count.
    """
    # Paths do not count: a moved file is the same data. The names of built-in corpora do.
    named = {
        k: v if v is None or v in BUILTIN else "files" for k, v in asdict(settings).items() if k in SIDES
    }
    selecting = {k: v for k, v in asdict(settings).items() if not k.startswith("mixture_")}
    digest = hashlib.sha256(json.dumps([FORMAT, selecting | named], sort_keys=True).encode())
    if rendering:
        digest.update(f"\0rendering\0{rendering}".encode())
    for source in filter(None, (settings.train, settings.validation)):
        for file in source_files(source, include=settings.include, exclude=settings.exclude):
            name = file.name
            if settings.mixes and source == settings.train:  # its folder is its task
                name = f"in {file.relative_to(source).as_posix()}"
            digest.update(f"\0{name}\0".encode())
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
    corpus: Corpus | None = None,
    rendering: str = "",
    notify: Notify = silent,
) -> CorpusShards:
    """Tokenize a corpus into the shards `train` and `validation`, in a subfolder of `folder`.

    Existing shards are verified, every byte of them (0.3 s for 100 million tokens), and written again if
    damaged; other processes that need the same shards wait.

    A document ends with the tokenizer's end token if it has one. The answers of labelled records are in
    shards of their own, `train_answers` and `validation_answers`; neither inputs nor answers get an end
    token. Labels are those of the training records, in the order of `head_labels` if these are the same.
    `source` is the `source_fingerprint` if it is known already, `corpus` one whose split may be known;
    `rendering` is that of the records that it reads by itself. Of a mixture the task of each record is kept.
    Errors: DataError if one side of the split is empty.
    """
    has_labels = learns_from in ("labels", "tags")
    source = source or source_fingerprint(settings, rendering)
    content = f"{source} {tokenizer.fingerprint} {tokenizer.eos_id}"
    content += "" if learns_from == "text" else f" {learns_from}"
    content += f" {template_content(tokenizer)}" if learns_from == "conversations" else ""
    content += f" {list(head_labels)}" if has_labels and head_labels else ""
    fingerprint = hashlib.sha256(content.encode()).hexdigest()

    def write(aside: Path) -> None:
        known = corpus or Corpus(settings, learns_from=learns_from)
        known.require_held_out()
        notify(f"tokenizing {settings.train}")
        overlap = Overlap(of_lines=learns_from == "text")
        if learns_from == "text":
            _write_texts(known, tokenizer, aside, overlap)
        else:
            labels = known.labels(head_labels) if has_labels else ()
            _write_pairs(known, tokenizer, aside, labels, overlap)
        facts = known.facts() | {"overlap": round(overlap.share, 4), "said": str(known.reading)}
        write_file(aside / DATA, json.dumps(facts, indent=1).encode())
        if source_fingerprint(settings, rendering) != source:  # the files were read a second time
            raise DataError(
                f"the files of {settings.train} changed while they were read; run the same command again "
                "when they are complete"
            )

    home = shards_of(Path(folder), fingerprint)
    with shared_folder(home, write):
        found = _opened(home, learns_from, mixes=settings.mixes)
    if said := found["reading"].pop("said", ""):
        notify(said)
    return CorpusShards(**found, fingerprint=fingerprint, learns_from=learns_from)


def _opened(home: Path, learns_from: LearnsFrom, *, mixes: bool) -> dict[str, Any]:
    """The shards in a folder, their labels and groups, and what was read."""
    names = [*SIDES, *(f"{side}_answers" for side in SIDES if learns_from != "text")]
    found: dict[str, Any] = {name: TokenShard.open(home / name) for name in names}
    found["labels"] = read_labels(home) if learns_from in ("labels", "tags") else ()
    if mixes and learns_from != "text":
        found["groups"], found["train_groups"] = read_groups(home)
    found["reading"] = json.loads((home / DATA).read_bytes())
    return found


@contextmanager
def _shard_writers(
    corpus: Corpus, folder: Path, sizes: Mapping[str, int]
) -> Iterator[dict[str, ShardWriter]]:
    """Writers for both sides of the split, one for each ending of `sizes` with this vocabulary size."""
    with ExitStack() as stack:
        writers = {
            f"{side}{ending}": stack.enter_context(ShardWriter(folder / f"{side}{ending}", vocab_size=size))
            for side in SIDES
            for ending, size in sizes.items()
        }
        yield writers
        for name, writer in writers.items():
            if not writer.num_documents:
                raise corpus.without(validation=name.startswith(SIDES[1]))
        for writer in writers.values():
            writer.close()


def _write_pairs(
    corpus: Corpus, tokenizer: Tokenizer, folder: Path, labels: tuple[str, ...], overlap: Overlap
) -> None:
    """Write the shards of labelled records, an answer for each input, and the labels."""
    learns_from = corpus.learns_from
    num_answers = {"pairs": tokenizer.vocab_size, "conversations": 2}.get(learns_from, len(labels) + 1)
    sizes = {"": tokenizer.vocab_size, "_answers": num_answers}
    tasks = Groups(corpus.settings.train) if corpus.settings.mixes else None
    with _shard_writers(corpus, folder, sizes) as writers:
        for group in _groups(corpus.documents(), lambda each: len(each[0].text) + len(each[0].answer or "")):
            documents = [document for document, _ in group]
            if labels:
                rows = encode_labelled(documents, tokenizer, labels, learns_from)
            elif learns_from == "pairs":
                rows = encode_pairs(documents, tokenizer)
            else:
                rows = encode_conversations(documents, tokenizer)
            for (document, validates), row in zip(group, rows, strict=True):
                overlap.add(corpus.key(document), validates)
                if tasks is not None and not validates:
                    tasks.add(document.file)
                num_bytes = sum(len(text.encode()) for text in document_texts(document, learns_from))
                for (ending, ids), count in zip(zip(sizes, row, strict=True), (num_bytes, 0), strict=True):
                    writer = writers[f"{SIDES[validates]}{ending}"]
                    writer.append(ids, num_bytes=count)
                    writer.end_document(keep_empty=True)
    if labels:
        write_labels(folder, labels)
    if tasks is not None:
        tasks.write(folder)


def _write_texts(corpus: Corpus, tokenizer: Tokenizer, folder: Path, overlap: Overlap) -> None:
    """Write the two shards of documents of text; the end token follows what ends one."""
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    with _shard_writers(corpus, folder, {"": tokenizer.vocab_size}) as writers:
        for group in _groups(_blocks(corpus, overlap), lambda each: len(each.text)):
            encoded = tokenizer.encode_batch([block.text for block in group])
            for block, ids in zip(group, encoded, strict=True):
                writer = writers[SIDES[block.validates]]
                writer.append([*ids, *end] if block.ends else ids, num_bytes=len(block.text.encode()))
                if block.is_last:
                    writer.end_document()


class _Block(NamedTuple):
    """A block of the text of a document or of a part of one, perhaps its last; the document may end there."""

    text: str
    validates: bool
    is_last: bool
    ends: bool


def _blocks(corpus: Corpus, overlap: Overlap) -> Iterator[_Block]:
    for document, validates in corpus.documents():
        overlap.add(document.text, validates)
        num_left = len(document.text)
        for block in blocks(document.text):
            num_left -= len(block)
            yield _Block(block, validates, not num_left, document.ends and not num_left)


def _groups(items: Iterable[Item], num_characters: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items that one call tokenizes."""
    group, total = list[Item](), 0
    for item in items:
        group.append(item)
        total += ITEM_CHARACTERS + num_characters(item)
        if total >= GROUP_CHARACTERS:
            yield group
            group, total = [], 0
    if group:
        yield group
