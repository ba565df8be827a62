"""Axes: the place of a value between the two ends, and which round values are marked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """An axis with its value `low` at the place `start` of a picture and `high` at `end`."""

    low: float
    high: float
    start: float = 0.0
    end: float = 1.0
    logarithmic: bool = False

    def places(self, values: Values) -> Values:
        """The places of values; what is beyond an end is at the end."""
        if self.logarithmic:
            shares = np.log(np.maximum(values, 1e-300) / self.low) / math.log(self.high / self.low)
        else:
            shares = (values - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * np.clip(shares, 0.0, 1.0)

    def place(self, value: float) -> float:
        """The place of one value."""
        return float(self.places(np.array(value)))

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most `most` round values from end to end, two at least where the axis has them, as text too.

        Each has its own decimals on a logarithmic axis; on a linear one all have the same.
        """
        ticks = self._powers(most) if self.logarithmic else self._steps(most)
        texts = [f"{tick:,.10g}" for tick in ticks]
        decimals = max(len(text.partition(".")[2]) for text in texts)
        texts = texts if self.logarithmic else [f"{tick:,.{decimals}f}" for tick in ticks]
        return list(zip(ticks, texts, strict=True))

    def _steps(self, most: int) -> list[float]:
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / max(most, 1)))
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


def scale_around(
    values: Iterable[float],
    start: float = 0.0,
    end: float = 1.0,
    *,
    logarithmic: bool = False,
    from_zero: bool = False,
) -> Scale:
    """An axis around finite values; from zero where lengths are compared, positive where logarithmic."""
    low, high = min(values := list(values)), max(values)
    if logarithmic:
        return Scale(low, high if high > low else low * 10.0, start, end, logarithmic=True)
    if from_zero:
        return Scale(0.0, high * 1.05 if high > 0 else 1.0, start, end)
    air = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return Scale(low - air, high + air, start, end)
