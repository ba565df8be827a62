"""What each kind of network is good at, measured on held-out modules of Python's library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seedbed.api.objectives import vocabulary_of
from seedbed.data.labelled_code import OWNERS, ROLES, docstrings, identifiers
from seedbed.data.prepare import DataSettings, split_documents
from seedbed.evaluation.cloze import Window, cloze_hits
from seedbed.evaluation.probe import features, probe_hits, share_of
from seedbed.generation.language_model import LanguageModel
from seedbed.text.tokenizer import Tokenizer

WINDOW_TOKENS, NUM_WINDOWS, SPAN_TOKENS = 64, 1000, 3
LINES, NUM_WORDS, WORDS_OF_A_PASSAGE, NUM_SENTENCES, MOST_TOKENS = 10, 6000, 6, 2000, 120


class Labelled(NamedTuple):
    """A text, and the characters start to end that its label speaks of, or all of it."""

    text: str
    start: int
    end: int
    label: str


class Tasks(NamedTuple):
    """Texts for every network alike: windows of characters to hide tokens in, words and sentences to label.

    The labelled ones are for fitting a probe, out of modules that were trained on, and for testing it.
    """

    passages: list[str]
    words: tuple[list[Labelled], list[Labelled]]
    sentences: tuple[list[Labelled], list[Labelled]]


def gather(data: DataSettings, *, seed: int = 0) -> Tasks:
    """The texts, drawn from the two sides of the split of the built-in code."""
    draw = np.random.default_rng(seed)
    sides: tuple[list[str], list[str]] = ([], [])
    for document, validates in split_documents(data):
        sides[validates].append(document.text)
    words = tuple(_some(draw, [w for text in side for w in _words(draw, text)], NUM_WORDS) for side in sides)
    sentences = tuple(
        _some(
            draw,
            [Labelled(t, 0, len(t), kind) for text in side for t, kind in docstrings(text)],
            NUM_SENTENCES,
        )
        for side in sides
    )
    passages = [passage for text in sides[True] for passage, _ in _passages(text)]
    order = draw.permutation(len(passages))
    return Tasks([passages[i] for i in order], words, sentences)  # type: ignore[arg-type]


def measure(lm: LanguageModel, tasks: Tasks) -> dict[str, Any]:
    """Shares with intervals: `cloze` (one token hidden), `span` (three), `words` and `sentences` (probes)."""
    assert lm.tokenizer is not None
    vocabulary = vocabulary_of(lm.tokenizer, lm.config)
    scores: dict[str, Any] = {}
    for name, length in (("cloze", 1), ("span", SPAN_TOKENS)):
        windows = _windows(lm.tokenizer, tasks.passages, length)
        scores[name] = share_of(cloze_hits(lm.module, vocabulary, windows))
    for name, labels, (train, test) in (
        ("words", ROLES, tasks.words),
        ("sentences", OWNERS, tasks.sentences),
    ):
        sides = [_features(lm, side, labels, mean=name == "sentences") for side in (train, test)]
        scores[name] = share_of(probe_hits(*sides, num_classes=len(labels)))
    return scores


def baselines(lm: LanguageModel, tasks: Tasks) -> dict[str, dict[str, float]]:
    """What needs no context: the most frequent label, and a probe on the embeddings of the pieces alone."""
    found = {}
    for name, labels, (train, test) in (
        ("words", ROLES, tasks.words),
        ("sentences", OWNERS, tasks.sentences),
    ):
        commonest = Counter(one.label for one in train).most_common(1)[0][0]
        found[name] = {"most frequent": sum(one.label == commonest for one in test) / len(test)}
        sides = [_features(lm, side, labels, mean=name == "sentences", bare=True) for side in (train, test)]
        found[name]["embeddings alone"] = probe_hits(*sides, num_classes=len(labels)).mean().item()
    return found


def _features(
    lm: LanguageModel, some: list[Labelled], labels: tuple[str, ...], *, mean: bool, bare: bool = False
) -> tuple[Tensor, Tensor]:
    """Features (n, d_model) and classes (n,): a word's at its last piece, or the mean of the text's."""
    assert lm.tokenizer is not None
    texts = list(dict.fromkeys(one.text for one in some))
    encoded = {text: lm.tokenizer.encode_spans(text) for text in texts}
    rows = [encoded[text][0][:MOST_TOKENS] for text in texts]
    table = lm.module.embed.weight.detach().float()
    states = [table[row] for row in rows] if bare else features(lm.module, rows)
    of_text = dict(zip(texts, states, strict=True))
    found, classes = [], []
    for one in some:
        spans = encoded[one.text][1][:MOST_TOKENS]
        pieces = [i for i, (a, b) in enumerate(spans) if a < one.end and b > one.start]
        if pieces:
            state = of_text[one.text]
            found.append(state[pieces].mean(0) if mean else state[pieces[-1]])
            classes.append(labels.index(one.label))
    return torch.stack(found), torch.tensor(classes)


def _windows(tokenizer: Tokenizer, passages: list[str], length: int) -> list[Window]:
    """One window of each passage that is long enough, the hidden tokens drawn in its inner half."""
    draw = np.random.default_rng(length)
    windows: list[Window] = []
    for ids in tokenizer.encode_batch(passages):
        if len(windows) == NUM_WINDOWS:
            break
        if len(ids) >= WINDOW_TOKENS:
            start = int(draw.integers(WINDOW_TOKENS // 4, 3 * WINDOW_TOKENS // 4 - length))
            windows.append(Window(ids[:WINDOW_TOKENS], start, length))
    return windows


def _passages(source: str) -> Iterator[tuple[str, int]]:
    """Runs of LINES lines that do not overlap, each with the number of its first line."""
    lines = source.splitlines(keepends=True)
    for first in range(0, len(lines), LINES):
        passage = "".join(lines[first : first + LINES])
        if passage.strip():
            yield passage, first


def _words(draw: np.random.Generator, source: str) -> Iterator[Labelled]:
    """Some identifiers of each passage of a module, with their roles."""
    by_passage: dict[int, list[Any]] = {}
    for one in identifiers(source):
        by_passage.setdefault(one.line // LINES, []).append(one)
    lines = source.splitlines(keepends=True)
    for passage, first in _passages(source):
        inside = by_passage.get(first // LINES, [])
        for i in draw.permutation(len(inside))[:WORDS_OF_A_PASSAGE]:
            before = sum(map(len, lines[first : inside[i].line]))
            yield Labelled(passage, before + inside[i].start, before + inside[i].end, inside[i].role)


def _some(draw: np.random.Generator, all_of_them: list[Labelled], num: int) -> list[Labelled]:
    return [all_of_them[i] for i in draw.permutation(len(all_of_them))[:num]]
