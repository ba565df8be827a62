"""Labels of texts and tags of words: their set, their order, and the tokens that they belong to."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from seedbed.base.errors import DataError
from seedbed.base.files import write_file
from seedbed.data.corpora import Document, LearnsFrom
from seedbed.nn.config import MAX_LABELS
from seedbed.text.tokenizer import Tokenizer

LABELS = "labels.json"


def answer_labels(document: Document, learns_from: LearnsFrom) -> list[str]:
    """The label of a text, or the tags of its words."""
    assert document.answer is not None
    return document.answer.split() if learns_from == "tags" else [document.answer]


def ordered_labels(found: set[str], source: str, *, head_labels: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels in the order of their logits: that of a head with the same labels, else sorted.

    Errors: DataError for a single label, and for more labels than a bundle may have.
    """
    if not 1 < len(found) <= MAX_LABELS:
        count = f"only the label {next(iter(found))!r}" if len(found) == 1 else f"{len(found):,} labels"
        raise DataError(
            f"the training records of {source} have {count}, allowed are 2 to {MAX_LABELS:,} different ones; "
            "check that data.target names the field of the labels"
        )
    return tuple(head_labels) if set(head_labels) == found else tuple(sorted(found))


def write_labels(folder: Path, labels: Sequence[str]) -> None:
    """Write the labels beside the shards that have their numbers."""
    write_file(folder / LABELS, f"{json.dumps(labels, indent=2, ensure_ascii=False)}\n".encode())


def read_labels(folder: Path) -> tuple[str, ...]:
    """Read the labels that belong to the numbers in the shards of a folder."""
    return tuple(json.loads((folder / LABELS).read_bytes()))


def encode_pairs(
    documents: Sequence[Document], tokenizer: Tokenizer
) -> Iterator[tuple[list[int], list[int]]]:
    """The ids of each text and of its answer."""
    encoded = iter(tokenizer.encode_batch([text for d in documents for text in (d.text, d.answer or "")]))
    return zip(encoded, encoded, strict=True)


def encode_labelled(
    documents: Sequence[Document], tokenizer: Tokenizer, labels: Sequence[str], learns_from: LearnsFrom
) -> Iterator[tuple[list[int], list[int]]]:
    """The ids of each text, and its answer as numbers of `labels`, counted from 1.

    A label is one number per text; tags are one number per token, the tag's at the first token of a word and
    0 at all others (BERT, 1810.04805, section 5.3). Errors: DataError naming the record.
    """
    numbers = {label: number for number, label in enumerate(labels, 1)}
    rows: Iterable[tuple[list[int], list[int]]]
    if learns_from == "labels":
        encoded = tokenizer.encode_batch([document.text for document in documents])
        rows = zip(encoded, ([_number(numbers, d, str(d.answer))] for d in documents), strict=True)
    else:
        rows = (_encode_tagged(document, tokenizer, numbers) for document in documents)
    for document, (ids, answer) in zip(documents, rows, strict=True):
        if not ids or not any(answer):
            raise DataError(f"{document.origin}: the text is empty or has no token; leave the record out")
        yield ids, answer


def _number(numbers: Mapping[str, int], document: Document, label: str) -> int:
    """The number of a record's label."""
    if label not in numbers:
        some = ", ".join(list(numbers)[:10]) + (", ..." if len(numbers) > 10 else "")
        raise DataError(
            f"{document.origin}: no training record has the label {label[:40]!r}, they have {some}; correct "
            "it, or add a training record that has it"
        )
    return numbers[label]


def _encode_tagged(
    document: Document, tokenizer: Tokenizer, numbers: Mapping[str, int]
) -> tuple[list[int], list[int]]:
    tags, num_words = answer_labels(document, "tags"), len(document.text.split())
    if len(tags) != num_words:
        raise DataError(f"{document.origin}: {num_words} words with {len(tags)} tags; give each word one tag")
    ids, spans = tokenizer.encode_spans(document.text)
    before, behind = map(len, tokenizer.around_ids)
    inner = slice(before, len(ids) - behind)
    begun = words_begun(document.text, spans[inner])
    return ids[inner], [0 if word is None else _number(numbers, document, tags[word]) for word in begun]


def words_begun(text: str, spans: Sequence[tuple[int, int]]) -> list[int | None]:
    """For each token with the characters (start, end) of the text, the number of the word that it begins.

    None for a token that begins no word: inside a word, or blanks. Words are separated by blanks; a token
    belongs to the word of its first character that is not a blank.
    """
    starts = [match.start() for match in re.finditer(r"\S+", text)]
    found: list[int | None] = []
    last = -1
    for start, end in spans:
        blanks = len(text[start:end]) - len(text[start:end].lstrip())
        word = bisect_right(starts, start + blanks) - 1 if start + blanks < end else last
        found.append(word if word > last else None)
        last = max(word, last)
    return found
