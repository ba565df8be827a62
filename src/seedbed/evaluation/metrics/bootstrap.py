"""Percentile bootstrap intervals of any score of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 1000
# Fewer do not show how much records differ: a percentile interval is then too narrow (Hesterberg 2015, 4.1).
ENOUGH_RECORDS = 30
_AT_ONCE = 2**22  # weights of one group of resamples
Numbers = NDArray[np.float64]
# Maps weights of records (num_resamples, num_records), how often each counts, to scores (num_resamples,).
WeightedScore = Callable[[Numbers], Numbers]


class Score(NamedTuple):
    """A value with its 95% interval, None where the records do not show one."""

    value: float
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, object]:
        """The same as JSON."""
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}


def bootstrapped(score: WeightedScore, num_records: int, *, seed: int = 0) -> Score:
    """The score of the records with its percentile interval (Efron and Tibshirani 1993, section 13.3)."""
    value = float(score(np.ones((1, num_records)))[0])
    if num_records < ENOUGH_RECORDS:
        return Score(value, None)
    scores = np.concatenate([score(weights) for weights in resampled(num_records, seed=seed)])
    low, high = np.percentile(scores, [2.5, 97.5]).tolist()
    return Score(value, (low, high) if low < high else None)  # all alike: nothing is known of their spread


def mean_score(values: Sequence[float]) -> WeightedScore:
    """The mean of a value of each record."""
    numbers = np.array(values, float)

    def score(weights: Numbers) -> Numbers:
        mean: Numbers = weights @ numbers / weights.sum(1)
        return mean

    return score


def ratio_score(parts: Sequence[tuple[float, float]]) -> WeightedScore:
    """The sum of a value over the sum of another one, each of every record; 0 where there is none of it."""
    numbers = np.array(parts, float).reshape(-1, 2)

    def score(weights: Numbers) -> Numbers:
        value, total = (weights @ numbers).T
        ratio: Numbers = value / np.where(total > 0, total, 1)
        return ratio

    return score


def resampled(num_records: int, *, seed: int) -> Iterator[Numbers]:
    """How often each record is in each of NUM_RESAMPLES samples with replacement, (n, num_records) each."""
    random, at_once = np.random.default_rng(seed), max(1, _AT_ONCE // num_records)
    for done in range(0, NUM_RESAMPLES, at_once):
        size = min(at_once, NUM_RESAMPLES - done)
        yield random.multinomial(num_records, np.full(num_records, 1 / num_records), size=size).astype(float)
