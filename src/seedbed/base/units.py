"""Numbers as people read them: three significant figures and a unit."""

from __future__ import annotations

import math

_JOINED = "\u00a0"  # no line break between a number and its unit
_BYTE_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_LONG_UNITS = ((365.25 * 86400, "years"), (86400, "days"))
COUNT_UNITS = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


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
    for size, name in COUNT_UNITS:
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
    """Write a duration: 0.42 s, 42 s, 2 min 05 s, 3 h 07 min, 12 days, 7.0 years."""
    if value < 9.95:
        return f"{figures(value, 2)}{_JOINED}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}{_JOINED}s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s".replace(" ", _JOINED)
    for length, name in _LONG_UNITS:
        if value >= 2 * length:
            return f"{figures(value / length, 2)}{_JOINED}{name}"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min".replace(" ", _JOINED)


def part_text(part: float, whole: float) -> str:
    """A count as a part of another one, with its share."""
    share = 100 * part / whole if whole else 0.0
    percent = f"{share:.2f}" if share >= 0.1 or share == 0 else f"{share:.2g}"
    return f"{part:,.0f} of {whole:,.0f} ({percent}%)"
