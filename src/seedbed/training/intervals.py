"""95% intervals of a mean and of a share, from records or groups of records that count as independent."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Z = 1.96  # of a normal distribution, two-sided
# Student's t for 1 to 4 degrees of freedom; above, the expansion of `_student` is within 0.3%.
_SMALL_T = (12.706, 4.303, 3.182, 2.776)
Numbers = NDArray[np.float64]
Interval = tuple[float, float]


def mean_interval(sums: Numbers, sizes: Numbers) -> Interval | None:
    """The interval of sum(sums) / sum(sizes), of groups (n,); None for fewer than two.

    The variance is that of a ratio estimator, by the delta method (Cochran 1977, section 6.4).
    """
    num, total = len(sums), float(sizes.sum())
    if num < 2:
        return None
    mean = float(sums.sum()) / total
    variance = float(((sums - mean * sizes) ** 2).sum()) * num / (num - 1)
    half = _student(num - 1) * math.sqrt(variance) / total
    return mean - half, mean + half


def share_interval(right: Numbers, sizes: Numbers) -> Interval:
    """The interval of the share sum(right) / sum(sizes), of records (n,) with `sizes` trials each.

    Wilson's (1927), with the number of independent trials that have the variance of these (Kish 1965): the
    words of one text resemble each other. It is not empty where all trials are right.
    """
    total = float(sizes.sum())
    share = float(right.sum()) / total
    variance = float(((right - share * sizes) ** 2).sum()) / total**2
    num = min(total, share * (1 - share) / variance if variance > 0 else np.count_nonzero(sizes))
    middle, scale = share + Z**2 / (2 * num), 1 + Z**2 / num
    half = Z * math.sqrt(share * (1 - share) / num + (Z / (2 * num)) ** 2)
    return (middle - half) / scale, (middle + half) / scale


def _student(degrees: int) -> float:
    """Student's t of a two-sided 95% interval (Abramowitz and Stegun 1964, 26.7.5)."""
    if degrees <= len(_SMALL_T):
        return _SMALL_T[degrees - 1]
    first, second = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / degrees + second / degrees**2 + third / degrees**3
