"""Two systems on the same records: the difference of their scores, and whether chance explains it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seedbed.evaluation.metrics.bootstrap import (
    ENOUGH_RECORDS,
    NUM_RESAMPLES,
    Numbers,
    Score,
    WeightedScore,
    resampled,
)


class Difference(NamedTuple):
    """A system's score minus the other's, and the probability of one as large if both were alike.

    `p_value` is None for fewer than ENOUGH_RECORDS records.
    """

    score: Score
    p_value: float | None

    def to_dict(self) -> dict[str, object]:
        """The same as JSON."""
        return self.score.to_dict() | {"p_value": self.p_value}


def compared(both: WeightedScore, num_records: int, *, seed: int = 0) -> Difference:
    """Compare two systems by a score of the records of the one, followed by the same records of the other.

    The interval is the percentile interval of the paired bootstrap; the p-value is two-sided, by approximate
    randomization: the outputs of each record change places at random (Noreen 1989; Riezler and Maxwell 2005).
    """
    ones = np.ones((1, num_records))
    value = float(_difference(both, ones, ones)[0])
    if num_records < ENOUGH_RECORDS:
        return Difference(Score(value, None), None)
    drawn = [_difference(both, weights, weights) for weights in resampled(num_records, seed=seed)]
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5]).tolist()
    random, as_large = np.random.default_rng([seed, 1]), 0
    for start in range(0, NUM_RESAMPLES, num_at_once := max(1, 2**22 // num_records)):
        size = min(num_at_once, NUM_RESAMPLES - start)
        stays = random.integers(0, 2, (size, num_records)).astype(float)
        swapped = both(np.hstack([stays, 1 - stays])) - both(np.hstack([1 - stays, stays]))
        as_large += int((np.abs(swapped) >= abs(value) - 1e-12).sum())
    interval = (low, high) if low < high else None
    return Difference(Score(value, interval), (1 + as_large) / (1 + NUM_RESAMPLES))


def _difference(both: WeightedScore, one: Numbers, other: Numbers) -> Numbers:
    nothing = np.zeros_like(one)
    difference: Numbers = both(np.hstack([one, nothing])) - both(np.hstack([nothing, other]))
    return difference
