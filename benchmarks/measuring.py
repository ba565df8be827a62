"""What the benchmarks share: calls timed in turn, ratios of one round, the machine's name."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any


def seconds_of(call: Callable[[], Any]) -> float:
    """The wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the rounds of ours / theirs of one round, so that a drift of the machine falls on both."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def machine() -> dict[str, Any]:
    """The processor that the figures are of."""
    from seedbed.base.hardware import cpu_name, instructions, num_cores

    return {"cpu": cpu_name(), "instructions": instructions(), "num_cores": num_cores()}


def table(rows: list[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Rows as lines of columns, each with its heading: {key: heading}."""
    shown = [[_text(row.get(key)) for key in columns] for row in rows]
    lines = [list(columns.values()), *shown]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
