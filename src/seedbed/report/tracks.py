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


def interval_figure(
    name: str,
    title: str,
    names: Sequence[Name],
    values: Sequence[Amount],
    unit: Unit,
    *,
    references: Sequence[tuple[str, float]] = (),
) -> Figure | None:
    """Values with their intervals, and dashed lines for targets or baselines."""
    tracks = []
    for who, value in zip(names, map(measured, values), strict=True):
        if value is not None:
            between = " ({} to {})".format(*map(unit.text, value.interval)) if value.interval else ""
            tracks.append(Track(who, unit.text(value.value) + between, None, value))
    dashed = "; ".join(f"{label} {unit.text(value)}" for label, value in references)
    caption = f"{title}. Dashed: {dashed}." if dashed else f"{title}."
    return _figure(name, title, caption, tracks, unit, [value for _, value in references])


def pair_figure(
    name: str,
    title: str,
    names: Sequence[Name],
    planned: Sequence[float | None],
    found: Sequence[float | None],
    unit: Unit,
) -> Figure | None:
    """Planned and measured values as rings and discs, with the ratio measured / planned."""
    tracks = []
    for who, plan, value in zip(names, planned, found, strict=True):
        if plan is not None or value is not None:
            ratio = f"ratio {value / plan:.2f}" if plan and value is not None else "not measured yet"
            note = f"{unit.text(plan)} \u2192 {unit.text(value)}, {ratio}"
            tracks.append(Track(who, note, plan, measured(value)))
    return _figure(name, title, f"{title}: planned \u2192 measured.", tracks, unit, ())


def _figure(
    name: str, title: str, caption: str, tracks: Sequence[Track], unit: Unit, references: Sequence[float]
) -> Figure | None:
    """The tracks one below the other; None of none. A key explains the marks where there are planned ones."""
    if not tracks:
        return None
    values = [value for track in tracks for value in _values(track)]
    scale = linear([value / unit.size for value in (*values, *references)], from_zero=True)
    key = any(track.planned is not None for track in tracks)
    top = 26.0 if key else 0.0
    plot = Plot(8.0, top, WIDTH - 14, top + _ROW * len(tracks), scale, scale)
    content = [*(_key() if key else ()), *bottom_axis(plot, unit.name)]
    content += [
        path("reference", "M", plot.x(value / unit.size), top, "V", plot.bottom) for value in references
    ]
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
    description = "; ".join(f"{track.name.text}: {track.note}" for track in tracks)
    return Figure(
        picture(name, f"{title}, {unit.name}", f"{description}.", plot.bottom + 44, content), caption
    )


def _values(track: Track) -> list[float]:
    """Every value that a row must have room for."""
    one = track.measured
    found = [] if one is None else [one.value, *(one.interval or ())]
    return found if track.planned is None else [track.planned, *found]


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
