"""Axes: the place of a value between the two ends, and which round values are marked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    logarithmic: bool = False

    def __post_init__(self) -> None:
        assert self.low < self.high, (self.low, self.high)
        assert self.low > 0 or not self.logarithmic, self.low

    def fraction(self, value: float) -> float:
        """The place of a value: 0 at the low end, 1 at the high end."""
        return float(self.fractions(np.asarray(value, dtype=np.float64)))

    def fractions(self, values: Values) -> Values:
        """The places of values, as `fraction`."""
        if self.logarithmic:
            return np.log(values / self.low) / math.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """At most `most` round values from end to end, two at least where the axis has them."""
        return self._powers(most) if self.logarithmic else self._steps(most)

    def _steps(self, most: int) -> list[float]:
        rough = (self.high - self.low) / max(most, 1)
        power = 10.0 ** math.floor(math.log10(rough))
        for step in (power, 2 * power, 2.5 * power, 5 * power, 10 * power):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first + 1 <= most:
                return [index * step for index in range(first, last + 1)]
        return [self.low]

    def _powers(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1, 2, 5), (1, 3), (1,)):
            values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
            inside = [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
            if len(inside) <= most:
                # An axis within one decade may have no power of ten: linear steps are round there too.
                return inside if len(inside) > 1 else self._steps(most)
        return inside[:: math.ceil(len(inside) / most)]


def linear(values: Sequence[float], from_zero: bool = False) -> Scale:
    """A linear axis around finite values with a twentieth of air; from zero where lengths are compared."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if from_zero:
        return Scale(0.0, high * 1.05 if high > 0 else 1.0)
    air = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return Scale(low - air, high + air)


def logarithmic(values: Sequence[float]) -> Scale:
    """A logarithmic axis from the least to the largest of finite positive values."""
    low, high = min(values), max(values)
    return Scale(low, high if high > low else low * 10.0, logarithmic=True)


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """Write a tick with enough decimals to differ from its neighbours."""
    gaps = [abs(after - before) for before, after in itertools.pairwise(ticks)]
    # On a logarithmic axis each tick shows its own figures, on a linear one all show the same decimals.
    uneven = bool(gaps) and max(gaps) > 1.5 * min(gaps)
    size = value if uneven or not gaps else min(gaps)
    if size == 0:
        return "0"
    decimals = max(0, -math.floor(math.log10(abs(size)) + 1e-9))
    if not uneven and not math.isclose(round(size, decimals), size, rel_tol=1e-6):
        decimals += 1
    return f"{value:,.{decimals}f}"


@dataclass(frozen=True)
class Stretches:
    """A long curve cut into stretches: the place of each, its mean, its least and its largest value.

    All four are (num_stretches,); `least` and `largest` bound every point, so nothing is hidden.
    """

    x: Values
    mean: Values
    least: Values
    largest: Values


def condense(x: Values, y: Values, *, scale: Scale, most: int) -> Stretches:
    """Condense a curve, x and y (num_points,), to at most `most` stretches of equal width on the axis.

    x does not fall. A short curve stays as it is: then mean, least and largest are the curve itself.
    """
    if len(x) <= most:
        return Stretches(x, y, y, y)
    place = np.clip((scale.fractions(x) * most).astype(np.int64), 0, most - 1)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    counts = np.diff(starts, append=len(x))
    mean = np.add.reduceat(y, starts) / counts
    centre = np.add.reduceat(x, starts) / counts
    return Stretches(centre, mean, np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts))
