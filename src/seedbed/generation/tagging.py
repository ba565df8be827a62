"""The labels of a text's words, and the entities in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from seedbed.base.errors import UsageError
from seedbed.data.fields import WORD as IS_WORD
from seedbed.text.entities import are_entity_tags, entities

Span = tuple[int, int]  # characters, from the first to behind the last
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{_CHINESE}]|[^\W{_CHINESE}]+|[^\w\s]")  # letters and digits, or one other character


@dataclass(frozen=True)
class TaggedWord:
    """A word with its most likely label and its probability; its characters are from `start` to `end`."""

    text: str
    label: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class TaggedEntity:
    """Neighbouring words of one entity; `label` is its type: `PER` of `B-PER` and `I-PER`."""

    label: str
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Tagging:
    """The words of a text with their labels, and the entities, if labels are those of BIO or BIOES."""

    text: str
    words: list[TaggedWord]
    entities: list[TaggedEntity]


def words_of(text: str | Sequence[str]) -> tuple[str, list[Span]]:
    """A text and where its words are; words are joined by blanks, as those of a training are.

    Errors: UsageError for a word that is empty or contains white space.
    """
    if isinstance(text, str):
        return text, [match.span() for match in WORD.finditer(text)]
    spans, end = [], 0
    for word in text:
        if not isinstance(word, str) or not IS_WORD.fullmatch(word):
            raise UsageError(f"{str(word)[:60]!r} is not a word: give one text, or the list of its words")
        spans.append((end, end + len(word)))
        end += len(word) + 1
    return " ".join(text), spans


def tagged(
    text: str,
    words: Sequence[Span],
    tokens: Sequence[Span],
    labels: Sequence[str],
    scores: Sequence[float],
    *,
    all_labels: Sequence[str],
) -> Tagging:
    """The words with the labels of their first tokens (BERT, 1810.04805, section 5.3).

    Errors: UsageError for a word that the tokenizer makes no token of.
    """
    found, at = [], 0
    for start, end in words:
        while at < len(tokens) and tokens[at][1] <= start:
            at += 1
        if at == len(tokens) or tokens[at][0] >= end:
            raise UsageError(f"the tokenizer makes no token of {text[start:end]!r}; leave it out of the text")
        found.append(TaggedWord(text[start:end], labels[at], scores[at], start, end))
    kinds = entities([word.label for word in found]) if are_entity_tags(all_labels) else []
    named = []
    for kind, first, last in kinds:
        start, end = found[first].start, found[last].end
        named.append(TaggedEntity(kind, start, end, text[start:end]))
    return Tagging(text, found, named)
