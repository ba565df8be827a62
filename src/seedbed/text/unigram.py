"""The vocabulary of a unigram model from counted words (Kudo 2018, section 3.2), the same in every run.

A word's probability is the sum over its segmentations into entries. Training begins with the frequent
substrings and drops those that the words need least, round by round, after two steps of expectation
maximization.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_ENTRY_CHARACTERS = 16
# A word's probability stays a float64: 24 entries at 1e-10 each.
MAX_WORD_CHARACTERS = 24
MAX_WORDS = 1 << 16  # of training, the most frequent
SEEDS_PER_ENTRY, KEPT_PER_ROUND, STEPS_PER_ROUND = 6, 0.75, 2
SPARE = 1.1  # rounds end with a tenth more entries than requested, of which the most likely stay
DISCOUNT, LEAST = 0.5, 0.1  # occurrences
Floats = NDArray[np.float64]


class _Lattice:
    """All segmentations of some texts, as edges between positions; an edge is an entry of the vocabulary.

    A text of n characters has n + 1 positions, one after the other. `entry`, `start` and `end` are per edge.
    """

    def __init__(self, texts: Sequence[str], entries: Mapping[str, int]) -> None:
        sizes = np.array([len(text) for text in texts], dtype=np.int32)
        self.last = np.cumsum(sizes + 1, dtype=np.int32) - 1
        self.first = self.last - sizes  # the position where each text begins
        self.num_positions = int((sizes + 1).sum())
        edges = np.fromiter(_edges(texts, entries), dtype=np.dtype((np.int32, 4)))
        edges = edges[np.argsort(edges[:, 1], kind="stable")]  # by where in its text an edge ends
        self.entry, ends, size, self.row = np.ascontiguousarray(edges.T)
        self.is_whole = size == sizes[self.row]
        self.end = self.first[self.row] + ends
        self.start = self.end - size
        self._by_end = _slices(ends)
        # By where an edge starts, the last first.
        order = np.argsort(size - ends, kind="stable").astype(np.int32)
        self._by_start = [order[part] for part in _slices((size - ends)[order])]

    def forward(self, chances: Floats) -> Floats:
        """The summed probability of all paths to each position; `chances` is the probability per edge."""
        before = np.zeros(self.num_positions)
        before[self.first] = 1
        for edges in self._by_end:
            np.add.at(before, self.end[edges], before[self.start[edges]] * chances[edges])
        return before

    def backward(self, chances: Floats) -> Floats:
        """The summed probability of all paths from each position to the end of its text."""
        behind = np.zeros(self.num_positions)
        behind[self.last] = 1
        for edges in self._by_start:
            np.add.at(behind, self.start[edges], behind[self.end[edges]] * chances[edges])
        return behind

    def expected(self, counts: Floats, probabilities: Floats) -> Floats:
        """The expected count of each entry in the texts, each of which occurs `counts` times."""
        chances = probabilities[self.entry]
        before, behind = self.forward(chances), self.backward(chances)
        weight = counts / before[self.last]
        share = weight[self.row] * before[self.start] * chances * behind[self.end]
        return np.asarray(np.bincount(self.entry, share, len(probabilities)), dtype=np.float64)

    def without_itself(self, probabilities: Floats) -> Floats:
        """The probability of each text split into at least two entries."""
        found: Floats = self.forward(np.where(self.is_whole, 0.0, probabilities[self.entry]))[self.last]
        return found


def _edges(texts: Sequence[str], entries: Mapping[str, int]) -> Iterator[tuple[int, int, int, int]]:
    """The entry, the end, the size and the text's index of each edge."""
    for row, text in enumerate(texts):
        for start in range(len(text)):
            for end in range(start + 1, min(len(text), start + MAX_ENTRY_CHARACTERS) + 1):
                entry = entries.get(text[start:end])
                if entry is not None:
                    yield entry, end, end - start, row


def _slices(ordered: NDArray[np.int32]) -> list[slice]:
    cuts = np.flatnonzero(np.diff(ordered)) + 1
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, len(ordered)], strict=True)]


def unigram_entries(words: Mapping[str, int], alphabet: Sequence[str], num_entries: int) -> dict[str, float]:
    """At most `num_entries` entries with log-probabilities, most likely first, the alphabet among them.

    The words consist of characters of the alphabet. No entry is longer than 16 characters or crosses from one
    word into another.
    """
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for at in range(0, len(word), MAX_WORD_CHARACTERS):
            counts[word[at : at + MAX_WORD_CHARACTERS]] += count
    texts = sorted(counts, key=lambda text: (-counts[text], text))[:MAX_WORDS]
    names = [*alphabet, *_seeds({text: counts[text] for text in texts}, SEEDS_PER_ENTRY * num_entries)]
    entries = {name: i for i, name in enumerate(names)}
    lattice, own = _Lattice(texts, entries), _Lattice(names, entries)
    weights = np.array([counts[text] for text in texts], dtype=np.float64)
    required = np.arange(len(names)) < len(alphabet)
    alive = np.ones(len(names), dtype=np.bool_)
    probabilities = _normalized(np.ones(len(names)), alive)
    while True:
        for _ in range(STEPS_PER_ROUND):
            expected = lattice.expected(weights, probabilities)
            alive = required | (expected >= DISCOUNT)
            probabilities = _normalized(expected, alive)
        num_alive = int(alive.sum())
        if num_alive <= SPARE * num_entries:
            break
        # What the log-probability of the words loses without an entry; 0 where that is undefined.
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = expected * (np.log(probabilities) - np.log(own.without_itself(probabilities)))
        loss[~alive], loss[required] = -np.inf, np.inf
        kept = max(int(SPARE * num_entries), int(KEPT_PER_ROUND * num_alive))
        alive[np.argsort(-loss, kind="stable")[kept:]] = False
        probabilities = _normalized(expected, alive)
    logs = np.log(probabilities, where=alive, out=np.full(len(names), -np.inf)).round(4)
    ranked = sorted(np.flatnonzero(alive), key=lambda i: (not required[i], -logs[i], names[i]))[:num_entries]
    found = sorted((-float(logs[i]), names[i]) for i in ranked)
    return {name: -score for score, name in found}


def _seeds(words: Mapping[str, int], num_seeds: int) -> list[str]:
    """The substrings of at least two characters with the greatest count times length.

    A longer one is counted only where its parts occur twice: else texts without spaces exhaust memory.
    """
    covers: dict[str, int] = {}
    parts = {character for word in words for character in word}
    for size in range(2, MAX_ENTRY_CHARACTERS + 1):
        counts: Counter[str] = Counter()
        for word, count in words.items():
            for start in range(len(word) - size + 1):
                text = word[start : start + size]
                if text[:-1] in parts and text[1:] in parts:
                    counts[text] += count
        parts = {text for text, count in counts.items() if count > 1}
        covers |= {text: counts[text] * size for text in parts}
    return sorted(covers, key=lambda text: (-covers[text], text))[:num_seeds]


def _normalized(expected: Floats, alive: NDArray[np.bool_]) -> Floats:
    """Probabilities from expected counts, less half an occurrence, which makes rare entries rarer.

    To first order this is the exponential of the digamma function, as under a Dirichlet prior.
    """
    weights = np.where(alive, np.maximum(expected - DISCOUNT, LEAST), 0.0)
    return np.asarray(weights / weights.sum())
