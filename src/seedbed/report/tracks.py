"""Rows of marks on one axis from zero: values with their intervals, planned beside measured values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seedbed.report.charts import LETTER, bottom_axis, clipped, stroke
from seedbed.report.page import WIDTH, Figure, Mark, Name, Word
from seedbed.report.scales import Scale, scale_around
from seedbed.report.units import Amount, Measured, Unit, measured

_ROW = 50.0
_PAIR = 68.0  # the height of a row of two marks


def track_figure(
    name: str,
    title: str,
    names: Sequence[Name],
    values: Sequence[Amount],
    unit: Unit,
    *,
    planned: Sequence[float | None] | None = None,
    references: Sequence[tuple[str, float]] = (),
) -> Figure | None:
    """A row for each name, None of none: a disc for its value, whiskers for the interval.

    With `planned` a ring for the plan, and the ratio measured / planned. `references` are dashed lines with
    their names: targets, baselines.
    """
    plans = [None] * len(names) if planned is None else planned
    rows = [
        (who, plan, value, _note(plan, value, unit, paired=planned is not None))
        for who, plan, value in zip(names, plans, map(measured, values), strict=True)
        if plan is not None or value is not None
    ]
    if not rows:
        return None
    ends = [plan for _, plan, *_ in rows if plan is not None] + [at for _, at in references]
    ends += [end for _, _, value, _ in rows if value for end in (value.value, *(value.interval or ()))]
    scale = scale_around([end / unit.size for end in ends], 8.0, WIDTH - 14, from_zero=True)
    bottom, letters = _ROW * len(rows), math.floor(WIDTH / LETTER)

    def place(value: float) -> float:
        return scale.place(value / unit.size)

    marks = bottom_axis(scale, unit.name, 0.0, bottom)
    marks += [stroke("reference", "M", place(at), 0.0, "V", bottom) for _, at in references]
    for index, (who, plan, value, note) in enumerate(rows):
        y, colour = _ROW * index + 36, who.colour
        note = clipped(note, letters)
        marks += [
            # A ground behind the words: no grid line runs through them.
            stroke("ground", "M", 0.0, y - 37, "H", WIDTH, "v25H0Z"),
            Word("name", 0.0, y - 18, clipped(who.text, max(letters - len(note) - 2, 8))),
            Word("note end", WIDTH, y - 18, note),
            stroke(f"track {colour}", "M", scale.start, y, "H", scale.end),
        ]
        if plan is not None and value is not None:
            marks.append(stroke(f"gap {colour}", "M", place(plan), y, "H", place(value.value)))
        if value is not None and value.interval is not None:
            low, high = map(place, value.interval)
            steps = (low, y - 6, "v12M", low, y, "H", high, "M", high, y - 6, "v12")
            marks.append(stroke(f"whisker {colour}", "M", *steps))
        if plan is not None:  # a ring is larger than a disc: both show where they meet
            arc = "a7.5 7.5 0 1 1 15 0a7.5 7.5 0 1 1-15 0"
            marks.append(stroke(f"ring {colour}", "M", place(plan) - 7.5, y, arc))
        if value is not None:
            marks.append(stroke(f"disc {colour}", "M", place(value.value), y, "h0"))
    caption = f"{title}. Open circle: planned; filled: measured." if planned else f"{title}."
    if references:
        caption += f" Dashed: {'; '.join(f'{label} {unit.text(at)}' for label, at in references)}."
    description = "; ".join(f"{who.text}: {note}" for who, *_, note in rows)
    return Figure(name, f"{title}, {unit.name}", f"{description}.", marks, bottom + 44, caption)


def _note(plan: float | None, value: Measured | None, unit: Unit, *, paired: bool) -> str:
    """The marks of a row in words."""
    found = unit.text(value.value if value else None)
    if paired:
        ratio = f"ratio {value.value / plan:.2f}" if plan and value else "not measured yet"
        return f"{unit.text(plan)} \u2192 {found}, {ratio}"
    ends = value.interval if value else None
    return f"{found} ({unit.text(ends[0])} to {unit.text(ends[1])})" if ends else found


def paired_figure(
    name: str, title: str, pairs: Sequence[tuple[Name, Measured | None, Measured]], unit: Unit
) -> Figure | None:
    """A row for each name, None of none: above a ring for the value before, below a disc for that after.

    Both have whiskers for their intervals.
    """
    if not pairs:
        return None
    values = [value for _, *both in pairs for value in both if value is not None]
    ends = [end / unit.size for value in values for end in (value.value, *(value.interval or ()))]
    scale = scale_around(ends, 8.0, WIDTH - 14, from_zero=True)
    bottom, letters = _PAIR * len(pairs), math.floor(WIDTH / LETTER)
    marks = bottom_axis(scale, unit.name, 0.0, bottom)
    for index, (who, before, after) in enumerate(pairs):
        top, note = _PAIR * index, _change(before, after, unit)
        marks += [
            stroke("ground", "M", 0.0, top - 1, "H", WIDTH, "v25H0Z"),
            Word("name", 0.0, top + 18, clipped(who.text, max(letters - len(note) - 2, 8))),
            Word("note end", WIDTH, top + 18, note),
        ]
        if before is not None:
            marks += _mark(before, top + 36, scale, unit, who.colour, is_ring=True)
        marks += _mark(after, top + 54, scale, unit, who.colour)
    caption = f"{title}."
    if any(before is not None for _, before, _ in pairs):
        caption += " Open circle: before training; filled: after."
    if any(value.interval for value in values):
        caption += " Whiskers: 95% intervals."
    description = "; ".join(f"{who.text}: {_change(before, after, unit)}" for who, before, after in pairs)
    return Figure(name, f"{title}, {unit.name}", f"{description}.", marks, bottom + 44, caption)


def _mark(
    value: Measured, y: float, scale: Scale, unit: Unit, colour: str, *, is_ring: bool = False
) -> list[Mark]:
    """A ring or a disc on its track, with whiskers where it has an interval."""
    marks: list[Mark] = [stroke(f"track {colour}", "M", scale.start, y, "H", scale.end)]
    if value.interval is not None:
        low, high = (scale.place(end / unit.size) for end in value.interval)
        steps = (low, y - 6, "v12M", low, y, "H", high, "M", high, y - 6, "v12")
        marks.append(stroke(f"whisker {colour}", "M", *steps))
    x = scale.place(value.value / unit.size)
    if is_ring:
        return [*marks, stroke(f"ring {colour}", "M", x - 6, y, "a6 6 0 1 1 12 0a6 6 0 1 1-12 0")]
    return [*marks, stroke(f"disc {colour}", "M", x, y, "h0")]


def _change(before: Measured | None, after: Measured, unit: Unit) -> str:
    then = "" if before is None else f"{unit.text(before.value)} \u2192 "
    return then + unit.text(after.value)
