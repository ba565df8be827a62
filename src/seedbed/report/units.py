"""Numbers as people read them: values with intervals, units, and three significant figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

_JOINED = "\u00a0"  # no line break between a number and its unit
_LARGEST = 1e100
_BYTE_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_COUNT_UNITS = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


class Measured(NamedTuple):
    """A value with its interval, where that is known."""

    value: float
    interval: tuple[float, float] | None = None

    @classmethod
    def read(cls, found: Any) -> Measured | None:
        """From the JSON `{"value": 0.4, "interval": [0.3, 0.5] or null}`; None where it has no value."""
        value = number(found.get("value")) if isinstance(found, Mapping) else None
        return None if value is None else cls(value, ends(found.get("interval")))


Amount = Measured | float | None  # None: not known


def measured(amount: Amount) -> Measured | None:
    """A value without an interval is measured too."""
    return amount if amount is None or isinstance(amount, Measured) else Measured(amount)


@dataclass(frozen=True)
class Unit:
    """The unit of an axis or of a column, and how many decimals its figures have."""

    name: str
    size: float = 1.0
    decimals: int = 0

    def text(self, value: float | None) -> str:
        """Write a figure of the column, a dash where there is none."""
        return "\u2013" if value is None else f"{value / self.size:,.{self.decimals}f}"


PERCENT = Unit("%", 0.01, 1)


def bytes_unit(values: Iterable[float | None]) -> Unit:
    """The unit of an axis or a column of bytes."""
    largest = _largest(values)
    if largest >= 4 * 2**30:
        return Unit("GiB", 2**30, 2)
    return Unit("MiB", 2**20, 0 if largest >= 20 * 2**20 else 2)


def seconds_unit(values: Iterable[float | None]) -> Unit:
    """The unit of an axis or a column of durations."""
    largest = _largest(values)
    if largest >= 3 * 3600:
        return Unit("hours", 3600, 2)
    return Unit("minutes", 60, 1) if largest >= 600 else Unit("seconds", 1, 0 if largest >= 20 else 1)


def count_unit(values: Iterable[float | None], noun: str) -> Unit:
    """The unit of an axis or a column of counts."""
    largest = _largest(values)
    for size, name in _COUNT_UNITS:
        if largest >= size * 0.9995:
            return Unit(f"{name} {noun}", size, 2)
    return Unit(f"thousand {noun}", 1e3, 1) if largest >= 20_000 else Unit(noun)


def _largest(values: Iterable[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)


def number(value: Any) -> float | None:
    """A number that can be calculated with, or None for whatever else a file may have in its place.

    Beyond 1e100 nothing is measured and sums overflow; below 1e-100 it is zero, because a ratio overflows.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        return None
    return float(value) if abs(value) * _LARGEST >= 1 else 0.0


def ends(interval: Any) -> tuple[float, float] | None:
    """The two ends of an interval in a file; None for anything else."""
    if not isinstance(interval, list) or len(interval) != 2:
        return None
    low, high = map(number, interval)
    return None if low is None or high is None else (low, high)


def figures(value: float, digits: int = 3) -> str:
    """Write a number with so many significant figures; powers of ten beyond 1e-4 and 1e15."""
    if value == 0 or not 1e-4 <= abs(value) < 1e15:
        return "0" if value == 0 else f"{value:.{digits - 1}e}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    # 9.996 rounds to 10.00: one figure too many, so the decimals are counted again.
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(decimals, 0)}f}"


def count_text(value: float) -> str:
    """Write a count: 1,234 or 1.23 million."""
    for size, name in _COUNT_UNITS:
        if value >= size * 0.9995:
            return f"{figures(value / size)}{_JOINED}{name}"
    return f"{value:,.0f}"


def bytes_text(value: float) -> str:
    """Write bytes in binary units: 412 MiB, 1.38 GiB."""
    for size, name in _BYTE_UNITS:
        if abs(value) >= size * 0.9995:
            return f"{figures(value / size)}{_JOINED}{name}"
    return f"{value:,.0f}{_JOINED}bytes"


def seconds_text(value: float) -> str:
    """Write a duration: 0.42 s, 42 s, 2 min 05 s, 3 h 07 min."""
    if value < 9.95:
        return f"{figures(value, 2)}{_JOINED}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}{_JOINED}s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s".replace(" ", _JOINED)
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min".replace(" ", _JOINED)


def away_text(ratio: float) -> str:
    """Write how far a measured quantity is from its plan: 4% above plan, 12% below plan, as planned."""
    percent = round((ratio - 1) * 100)
    return "as planned" if percent == 0 else f"{abs(percent)}% {'above' if percent > 0 else 'below'} plan"
