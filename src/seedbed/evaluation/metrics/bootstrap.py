"""Percentile bootstrap intervals of scores that are functions of sums over records."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 1000
_CELLS = 2**22  # numbers of one group of resamples
Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


class Score(NamedTuple):
    """A value with its 95% interval, None where there are too few records for one."""

    value: float
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, object]:
        """The same as JSON."""
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}


def bootstrapped(counts: Counts, score: Callable[[Counts], Scores], *, seed: int = 0) -> Score:
    """The score of counts (num_records, k) summed over the records, with its percentile interval.

    `score` maps sums (n, k) to scores (n,). Records are resampled with replacement (Efron and Tibshirani
    1993, section 13.3); the order of the records does not matter.
    """
    value = float(score(counts.sum(0, keepdims=True))[0])
    if len(counts) < 2:
        return Score(value, None)
    scores = np.concatenate([score(sums) for sums in resampled_sums(counts, seed=seed)])
    low, high = np.percentile(scores, [2.5, 97.5]).tolist()
    return Score(value, (low, high))


def resampled_sums(counts: Counts, *, seed: int) -> list[Counts]:
    """The summed counts of NUM_RESAMPLES resamples, (n, k) in groups."""
    # Records that count alike are one cell of a multinomial distribution.
    rows, multiplicity = np.unique(counts, axis=0, return_counts=True)
    random, at_once = np.random.default_rng(seed), max(1, _CELLS // len(rows))
    sizes = [min(at_once, NUM_RESAMPLES - done) for done in range(0, NUM_RESAMPLES, at_once)]
    shares = multiplicity / len(counts)
    return [random.multinomial(len(counts), shares, size=size) @ rows for size in sizes]
