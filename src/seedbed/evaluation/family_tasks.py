"""Four tasks for networks of every architecture, on held-out modules of Python's library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seedbed.data.corpus import Corpus
from seedbed.data.labelled_code import OWNERS, ROLES, docstrings, identifiers
from seedbed.data.settings import DataSettings
from seedbed.data.vocabulary import Vocabulary
from seedbed.evaluation.cloze import Window, cloze_hits
from seedbed.evaluation.probe import features, probe_hits, share_of
from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import decoder_start_id

WINDOW_TOKENS, NUM_WINDOWS, SPAN_TOKENS = 64, 1000, 3
LINES, NUM_WORDS, WORDS_OF_A_PASSAGE, NUM_SENTENCES, MOST_TOKENS = 10, 6000, 6, 2000, 120


class Labelled(NamedTuple):
    """A text, and the characters start to end that its label describes, or all of it."""

    text: str
    start: int
    end: int
    label: str


class Probe(NamedTuple):
    """A task with labels: `sides` are the texts to fit a probe on, and those to test it on.

    `mean` says whether a text is represented by the mean of its tokens or by the last.
    """

    name: str
    labels: tuple[str, ...]
    sides: list[list[Labelled]]
    mean: bool


class Tasks(NamedTuple):
    """The same texts for every network: held-out passages to hide tokens in, words and sentences to label.

    The labelled ones to fit a probe on are from modules that were trained on, the others are held out.
    """

    passages: list[str]
    probes: tuple[Probe, ...]


def gather(data: DataSettings, *, seed: int = 0) -> Tasks:
    """The texts, sampled from the two sides of the split of the built-in code."""
    rng = np.random.default_rng(seed)
    sides: tuple[list[str], list[str]] = ([], [])
    for document, validates in Corpus(data).documents():
        sides[validates].append(document.text)
    words = [_some(rng, [w for text in side for w in _words(rng, text)], NUM_WORDS) for side in sides]
    labelled = [
        [Labelled(text, 0, len(text), kind) for source in side for text, kind in docstrings(source)]
        for side in sides
    ]
    sentences = [_some(rng, side, NUM_SENTENCES) for side in labelled]
    passages = [passage for text in sides[True] for passage, _ in _passages(text)]
    probes = (Probe("words", ROLES, words, mean=False), Probe("sentences", OWNERS, sentences, mean=True))
    return Tasks([passages[i] for i in rng.permutation(len(passages))], probes)


def measure(lm: LanguageModel, tasks: Tasks) -> dict[str, Any]:
    """Shares with intervals: `cloze` (one token hidden), `span` (three), `words` and `sentences` (probes)."""
    assert lm.tokenizer is not None
    vocabulary = Vocabulary.of(lm.tokenizer, decoder_start_id=decoder_start_id(lm.config))
    scores: dict[str, Any] = {}
    passages = lm.tokenizer.encode_batch(tasks.passages)
    for name, length in (("cloze", 1), ("span", SPAN_TOKENS)):
        scores[name] = share_of(cloze_hits(lm.module, vocabulary, _windows(passages, length)))
    for probe in tasks.probes:
        scores[probe.name] = share_of(_probed(lm, probe))
    return scores


def baselines(lm: LanguageModel, tasks: Tasks) -> dict[str, dict[str, float]]:
    """Scores without context: the most frequent label, and a probe on the embeddings of the tokens alone."""
    found = {}
    for probe in tasks.probes:
        train, test = probe.sides
        commonest = Counter(one.label for one in train).most_common(1)[0][0]
        found[probe.name] = {
            "most frequent": sum(one.label == commonest for one in test) / len(test),
            "embeddings alone": _probed(lm, probe, bare=True).mean().item(),
        }
    return found


def _probed(lm: LanguageModel, probe: Probe, *, bare: bool = False) -> Tensor:
    """Which of the test labels a probe predicts, (n,); `bare`: from embeddings."""
    train, test = (_features(lm, side, probe, bare=bare) for side in probe.sides)
    return probe_hits(train, test, num_classes=len(probe.labels))


def _features(lm: LanguageModel, some: list[Labelled], probe: Probe, *, bare: bool) -> tuple[Tensor, Tensor]:
    """Features (n, d_model) and classes (n,): those of a word's last token, or the mean of the text's."""
    assert lm.tokenizer is not None
    texts = list(dict.fromkeys(one.text for one in some))
    encoded = {text: lm.tokenizer.encode_spans(text) for text in texts}
    rows = [encoded[text][0][:MOST_TOKENS] for text in texts]
    table = lm.module.embed.dense().detach().float()
    states = [table[row] for row in rows] if bare else features(lm.module, rows)
    of_text = dict(zip(texts, states, strict=True))
    found, classes = [], []
    for one in some:
        spans = encoded[one.text][1][:MOST_TOKENS]
        inside = [i for i, (a, b) in enumerate(spans) if a < one.end and b > one.start]
        if inside:
            state = of_text[one.text]
            found.append(state[inside].mean(0) if probe.mean else state[inside[-1]])
            classes.append(probe.labels.index(one.label))
    return torch.stack(found), torch.tensor(classes)


def _windows(passages: list[list[int]], length: int) -> list[Window]:
    """One window of each passage that is long enough; the hidden tokens are sampled from its inner half."""
    rng = np.random.default_rng(length)
    windows: list[Window] = []
    for ids in passages:
        if len(windows) == NUM_WINDOWS:
            break
        if len(ids) >= WINDOW_TOKENS:
            start = int(rng.integers(WINDOW_TOKENS // 4, 3 * WINDOW_TOKENS // 4 - length))
            windows.append(Window(ids[:WINDOW_TOKENS], start, length))
    return windows


def _passages(source: str) -> Iterator[tuple[str, int]]:
    """Runs of LINES lines that do not overlap, each with the number of its first line."""
    lines = source.splitlines(keepends=True)
    for first in range(0, len(lines), LINES):
        passage = "".join(lines[first : first + LINES])
        if passage.strip():
            yield passage, first


def _words(rng: np.random.Generator, source: str) -> Iterator[Labelled]:
    """Some identifiers of each passage of a module, with their roles."""
    by_passage: dict[int, list[Any]] = {}
    for one in identifiers(source):
        by_passage.setdefault(one.line // LINES, []).append(one)
    lines = source.splitlines(keepends=True)
    for passage, first in _passages(source):
        inside = by_passage.get(first // LINES, [])
        for i in rng.permutation(len(inside))[:WORDS_OF_A_PASSAGE]:
            before = sum(map(len, lines[first : inside[i].line]))
            yield Labelled(passage, before + inside[i].start, before + inside[i].end, inside[i].role)


def _some(rng: np.random.Generator, all_of_them: list[Labelled], num: int) -> list[Labelled]:
    return [all_of_them[i] for i in rng.permutation(len(all_of_them))[:num]]
