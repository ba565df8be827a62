"""Rows of marks on one axis from zero: values with their intervals, planned beside measured values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from seedbed.report.charts import LETTER, WIDTH, Plot, bottom_axis, clipped, path, picture
from seedbed.report.markup import Markup, element, series_class
from seedbed.report.page import Figure, Name
from seedbed.report.scales import linear
from seedbed.report.units import Amount, Measured, Unit, measured

_ROW = 50.0


class Track(NamedTuple):
    """One row: its name, its marks in words, and what was planned, measured or both."""

    name: Name
    note: str
    planned: float | None
    measured: Measured | None

    @property
    def ends(self) -> list[float]:
        """Every value that the axis must have."""
        found = [] if self.measured is None else [self.measured.value, *(self.measured.interval or ())]
        return found if self.planned is None else [self.planned, *found]


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
    rows = zip(names, plans, map(measured, values), strict=True)
    tracks = [
        Track(who, (_value_text if planned is None else _pair_text)(plan, value, unit), plan, value)
        for who, plan, value in rows
        if plan is not None or value is not None
    ]
    if not tracks:
        return None
    ends = [value for track in tracks for value in track.ends] + [value for _, value in references]
    scale = linear([value / unit.size for value in ends], from_zero=True)
    top = 0.0 if planned is None else 26.0
    plot = Plot(8.0, top, WIDTH - 14, top + _ROW * len(tracks), scale, scale)
    content = [*(() if planned is None else _key()), *bottom_axis(plot, unit.name)]
    content += [path("reference", "M", plot.x(at / unit.size), top, "V", plot.bottom) for _, at in references]
    letters = math.floor(WIDTH / LETTER)
    for index, track in enumerate(tracks):
        y = top + _ROW * index
        note = clipped(track.note, letters)
        text = clipped(track.name.text, max(letters - len(note) - 2, 8))
        # A ground behind the words: no grid line runs through them.
        content.append(element("rect", x=0, y=y - 1, width=WIDTH, height=25, class_="ground"))
        content.append(element("text", text, x=0, y=y + 18, class_="name"))
        content.append(element("text", note, x=WIDTH, y=y + 18, class_="note end"))
        content.append(_marks(plot, track, y + 36, unit.size))
    dashed = "; ".join(f"{label} {unit.text(value)}" for label, value in references)
    caption = title + (": planned \u2192 measured." if planned else f". Dashed: {dashed}." if dashed else ".")
    description = "; ".join(f"{track.name.text}: {track.note}" for track in tracks)
    return Figure(
        picture(name, f"{title}, {unit.name}", f"{description}.", plot.bottom + 44, content), caption
    )


def _value_text(_: float | None, value: Measured | None, unit: Unit) -> str:
    assert value is not None
    between = " ({} to {})".format(*map(unit.text, value.interval)) if value.interval else ""
    return unit.text(value.value) + between


def _pair_text(plan: float | None, value: Measured | None, unit: Unit) -> str:
    ratio = f"ratio {value.value / plan:.2f}" if plan and value else "not measured yet"
    return f"{unit.text(plan)} \u2192 {unit.text(value.value if value else None)}, {ratio}"


def _marks(plot: Plot, track: Track, y: float, size: float) -> Markup:
    """A ring for the plan, a disc for the measurement with its whiskers, and a line between the two."""
    drawn = [path("track", "M", plot.left, y, "H", plot.right)]
    planned = None if track.planned is None else plot.x(track.planned / size)
    found = None if track.measured is None else plot.x(track.measured.value / size)
    if planned is not None and found is not None:
        drawn.append(path("gap", "M", min(planned, found), y, "H", max(planned, found)))
    if track.measured is not None and track.measured.interval is not None:
        low, high = (plot.x(end / size) for end in track.measured.interval)
        drawn.append(path("whisker", "M", low, y - 6, "v12M", low, y, "H", high, "M", high, y - 6, "v12"))
    drawn += [] if planned is None else [_ring(planned, y)]
    drawn += [] if found is None else [_disc(found, y)]
    return element("g", *drawn, class_=series_class(track.name.series))


def _disc(x: float, y: float) -> Markup:
    return element("circle", cx=x, cy=y, r=4.0, class_="disc")


def _ring(x: float, y: float) -> Markup:
    """A ring is larger than a disc: both show where they meet."""
    return element("circle", cx=x, cy=y, r=7.5, class_="ring")


def _key() -> list[Markup]:
    """Which mark is the plan and which the measurement."""
    planned = [_ring(9.0, 10.0), element("text", "planned", x=22, y=14, class_="note")]
    found = [_disc(96.0, 10.0), element("text", "measured", x=106, y=14, class_="note")]
    return [element("g", *planned, *found, class_="s0")]
