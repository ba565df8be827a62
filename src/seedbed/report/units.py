"""Values with intervals, the units of axes and columns, and numbers from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from seedbed.base.units import COUNT_UNITS

_LARGEST = 1e100


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
    for size, name in COUNT_UNITS:
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
