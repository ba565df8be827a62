"""Values with intervals, the units of axes and columns, and numbers from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        if not isinstance(found, Mapping) or (value := number(found.get("value"))) is None:
            return None
        ends = found["interval"] if isinstance(found.get("interval"), list) else []
        known = [end for end in map(number, ends) if end is not None]
        return cls(value, (known[0], known[1]) if len(known) == len(ends) == 2 else None)


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
    gib, mib = Unit("GiB", 2**30, 2), Unit("MiB", 2**20)
    return _unit(values, [(4 * 2**30, gib), (20 * 2**20, mib), (0, replace(mib, decimals=2))])


def seconds_unit(values: Iterable[float | None]) -> Unit:
    """The unit of an axis or a column of durations."""
    whole, tenths = Unit("seconds"), Unit("seconds", decimals=1)
    hours, minutes = Unit("hours", 3600, 2), Unit("minutes", 60, 1)
    return _unit(values, [(3 * 3600, hours), (600, minutes), (20, whole), (0, tenths)])


def count_unit(values: Iterable[float | None], noun: str) -> Unit:
    """The unit of an axis or a column of counts."""
    large = [(size * 0.9995, Unit(f"{name} {noun}", size, 2)) for size, name in COUNT_UNITS]
    return _unit(values, [*large, (20_000, Unit(f"thousand {noun}", 1e3, 1)), (0, Unit(noun))])


def _unit(values: Iterable[float | None], units: Sequence[tuple[float, Unit]]) -> Unit:
    """The first unit whose least value the largest of the values reaches, else the last."""
    largest = max((value for value in values if value is not None), default=0.0)
    return next((unit for least, unit in units if largest >= least), units[-1][1])


def number(value: Any) -> float | None:
    """A number that can be calculated with, or None for whatever else a file may have in its place.

    Beyond 1e100 nothing is measured and sums overflow; below 1e-100 it is zero, because a ratio overflows.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        return None
    return float(value) if abs(value) * _LARGEST >= 1 else 0.0


def table(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table that a file has under a key; an empty one for anything else."""
    value = found.get(key)
    return value if isinstance(value, Mapping) else {}


def rows(found: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The tables of the list that a file has under a key; whatever else is in the list is left out."""
    value = found.get(key)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []
