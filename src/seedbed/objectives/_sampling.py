"""Random numbers of the objectives that corrupt text; they depend on (seed, record) alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seedbed.data.records import Record


def record_rng(seed: int, record: Record, *, anew: bool = True) -> np.random.Generator:
    """Return the generator of a record; the same in every pass unless `anew`."""
    return np.random.Generator(np.random.PCG64([seed, *record.key[0 if anew else 1 :]]))


def count(rng: np.random.Generator, expected: float) -> int:
    """Round `expected` up or down at random, so that the mean is exact."""
    return int(expected + rng.random())


def segments(rng: np.random.Generator, total: int, num: int) -> NDArray[np.int64]:
    """Cut `total` into `num` lengths of at least 1, every way equally likely -> (num,)."""
    cuts = np.sort(rng.permutation(total - 1)[: num - 1]) + 1
    return np.diff(cuts, prepend=0, append=total)
