"""What the corrupting objectives draw: all of it from (seed, record) alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seedbed.data.records import Record


def generator(seed: int, record: Record, *, anew: bool = True) -> np.random.Generator:
    """A generator of a record's own; the same in every pass unless `anew`."""
    return np.random.Generator(np.random.PCG64([seed, *record.key[0 if anew else 1 :]]))


def count(draw: np.random.Generator, expected: float) -> int:
    """A whole number whose mean is exactly `expected`, the one below it or the one above."""
    return int(expected + draw.random())


def segments(draw: np.random.Generator, total: int, num: int) -> NDArray[np.int64]:
    """Lengths (num,), none of them 0, whose sum is `total`: each way to cut it is as likely."""
    cuts = np.sort(draw.permutation(total - 1)[: num - 1]) + 1
    return np.diff(cuts, prepend=0, append=total)
