"""Pictures as inline SVG: curves labelled at their ends, and marks on a track with intervals or ratios.

Each picture is drawn twice, for a wide and for a narrow place; the style sheet shows the one that fits, so
that its letters stay as large as the text around them. Colours are names of the palette, in light and dark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from seedbed.report.markup import Markup, compact, element, join
from seedbed.report.palette import series_colour
from seedbed.report.scales import Scale, Stretches, Values, condense, linear, logarithmic, tick_text

MOST_STRETCHES = 160
_LETTERS_HEIGHT = 15.0
_BELOW = 30.0  # that names may reach below the plot, beside the numbers of its axis
_LETTER = 6.8  # mean width of a letter at 13 px in the system fonts, on the safe side


@dataclass(frozen=True)
class Frame:
    """The place that a picture is drawn for, in pixels; `labels` is the room at the right for names."""

    name: str
    width: float
    labels: float
    ticks: int


FRAMES = (Frame("wide", 464.0, 132.0, 6), Frame("narrow", 320.0, 118.0, 4))


@dataclass(frozen=True)
class Caption:
    """What a reader who does not see a picture is told; `name` is unique on its page."""

    name: str
    title: str
    description: str


@dataclass(frozen=True)
class Line:
    """A curve: x and y are (num_points,) and finite, x does not fall. `note` stands before its last value.

    A marked one shows its points, and `low` and `high`, (num_points,) each, as their intervals; any other one
    shows a band where it was condensed.
    """

    label: str
    note: str
    series: int | None
    x: Values
    y: Values
    marked: bool = False
    low: Values | None = None
    high: Values | None = None


@dataclass(frozen=True)
class Mark:
    """A value on a track: a disc for a measured one, a ring for a planned one, whiskers for an interval."""

    value: float
    measured: bool = True
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Track:
    """One row of a track picture: who it is, what its marks say in words, and the marks."""

    label: str
    note: str
    series: int | None
    marks: tuple[Mark, ...]


def line_chart(
    lines: Sequence[Line],
    *,
    caption: Caption,
    x_label: str,
    y_label: str,
    y_scale: Scale | None = None,
    log_x: bool = False,
) -> Markup:
    """Draw curves over a common axis; a logarithmic one leaves out what lies at zero or below.

    `y_scale` lets several pictures share an axis, `spanning` makes one. A band that reaches beyond is cut.
    """
    x_scale, curves = _prepared(lines, log_x)
    y_scale = y_scale or spanning(lines, log_x)
    x_label = f"{x_label} (logarithmic)" if log_x else x_label

    def draw(frame: Frame) -> tuple[float, Markup]:
        height = max(
            214.0, sum(map(_label_height, Counter((line.label, line.series) for line, _ in curves).values()))
        )
        plot = _Plot(36.0, 26.0, frame.width - frame.labels, 26.0 + height, x_scale, y_scale)
        content = [
            element("text", y_label, x=0, y=13, class_="axis"),
            _left_axis(plot),
            _bottom_axis(plot, x_label, frame.ticks),
            element(
                "svg",
                *(_band(plot, line, curve) for line, curve in curves),
                *(_stroke(plot, line, curve) for line, curve in curves),
                **plot.viewport(),
            ),
            _end_labels(plot, curves, frame.labels),
        ]
        return plot.bottom + 44, join(content)

    return _both(caption, draw)


def spanning(lines: Sequence[Line], log_x: bool) -> Scale:
    """A vertical axis that holds every drawn line and interval; of bands, what lies beyond is cut."""
    _, curves = _prepared(lines, log_x)
    drawn = [values for line, curve in curves for values in (curve.mean, line.low, line.high)]
    return linear(
        [float(end) for values in drawn if values is not None for end in (values.min(), values.max())]
    )


def track_chart(tracks: Sequence[Track], *, caption: Caption, x_label: str, key: bool = False) -> Markup:
    """Draw each row's marks on an axis that begins at zero; `key` tells planned marks from measured ones."""
    ends = [mark.interval[1] if mark.interval else mark.value for track in tracks for mark in track.marks]
    scale = linear(ends, from_zero=True)

    def draw(frame: Frame) -> tuple[float, Markup]:
        top, row = (26.0 if key else 0.0), 54.0
        plot = _Plot(8.0, top, frame.width - 14, top + row * len(tracks), scale, scale)
        content: list[Markup | None] = [_key() if key else None, _bottom_axis(plot, x_label, frame.ticks)]
        letters = math.floor(frame.width / _LETTER)
        for index, track in enumerate(tracks):
            y = top + row * index
            note = clipped(track.note, letters)
            name = clipped(track.label, max(letters - len(note) - 2, 8))
            # The words lie on the page's own ground, so that no grid line runs through them.
            content.append(element("rect", x=0, y=y + 2, width=frame.width, height=22, class_="ground"))
            content.append(element("text", name, x=0, y=y + 18, class_="name"))
            content.append(element("text", note, x=frame.width, y=y + 18, class_="note end"))
            content.append(_marks(plot, track, y + 38))
        return plot.bottom + 44, join(content)

    return _both(caption, draw)


def spread(wanted: Sequence[float], heights: Sequence[float], *, low: float, high: float) -> list[float]:
    """Move the centres of labels apart, as little as their order allows, between low and high."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    centres = list(wanted)
    floor = low
    for index in order:
        centres[index] = max(wanted[index], floor + heights[index] / 2)
        floor = centres[index] + heights[index] / 2
    ceiling = high
    for index in reversed(order):
        centres[index] = min(centres[index], ceiling - heights[index] / 2)
        ceiling = centres[index] - heights[index] / 2
    return centres


def clipped(text: str, letters: int) -> str:
    """Shorten a text to so many letters with an ellipsis in its middle: names often differ at their end."""
    if len(text) <= letters:
        return text
    tail = max(letters - 1, 2) // 2
    return f"{text[: max(letters - 1, 2) - tail]}\u2026{text[len(text) - tail :]}"


@dataclass(frozen=True)
class _Plot:
    """The edges of a plot in pixels, and its two axes."""

    left: float
    top: float
    right: float
    bottom: float
    x_scale: Scale
    y_scale: Scale

    def x(self, value: float) -> float:
        """The place of a value of the horizontal axis."""
        return self.left + (self.right - self.left) * self.x_scale.fraction(value)

    def y(self, value: float) -> float:
        """The place of a value of the vertical axis."""
        # Far beyond the frame is cut anyway, and a spike of 1e30 is no coordinate.
        return self.bottom - (self.bottom - self.top) * min(max(self.y_scale.fraction(value), -1.0), 2.0)

    def points(self, x: Values, y: Values) -> list[str]:
        """The points of a curve as path coordinates."""
        pairs = zip(x.tolist(), y.tolist(), strict=True)
        return [f"{compact(self.x(across))} {compact(self.y(up))}" for across, up in pairs]

    def viewport(self) -> dict[str, str | float]:
        """The attributes of an inner picture with this plot's own coordinates, which cuts what lies outside.

        It reaches three pixels beyond the plot, so that a point on its edge is drawn whole.
        """
        x, y = self.left - 3, self.top - 3
        width, height = self.right - self.left + 6, self.bottom - self.top + 6
        box = " ".join(compact(edge) for edge in (x, y, width, height))
        return {"x": x, "y": y, "width": width, "height": height, "viewBox": box}


def _both(caption: Caption, draw: Callable[[Frame], tuple[float, Markup]]) -> Markup:
    """Draw a picture for each frame, with its title and description; `draw` gives its height and content."""
    pictures = []
    for frame in FRAMES:
        height, content = draw(frame)
        name = f"{caption.name}-{frame.name}"
        pictures.append(
            element(
                "svg",
                element("title", caption.title, id=f"{name}-title"),
                element("desc", caption.description, id=f"{name}-text"),
                content,
                class_=frame.name,
                viewBox=f"0 0 {compact(frame.width)} {compact(height)}",
                role="img",
                aria_labelledby=f"{name}-title",
                aria_describedby=f"{name}-text",
            )
        )
    return element("div", *pictures, class_="chart")


def _path(class_: str, *steps: str | float, stroke: str | None = None) -> Markup:
    """A path from letters and coordinates."""
    d = " ".join(compact(step) if isinstance(step, float) else step for step in steps)
    return element("path", d=d, class_=class_, stroke=stroke)


def _prepared(lines: Sequence[Line], log_x: bool) -> tuple[Scale, list[tuple[Line, Stretches]]]:
    """The horizontal axis, and the curves that lie on it, condensed."""
    shown = [_above_zero(line) for line in lines] if log_x else list(lines)
    shown = [line for line in shown if len(line.x)]
    assert shown, "a picture of nothing"
    ends = [float(x) for line in shown for x in (line.x[0], line.x[-1])]
    scale = logarithmic(ends) if log_x else linear(ends, from_zero=True)
    return scale, [(line, condense(line.x, line.y, scale=scale, most=MOST_STRETCHES)) for line in shown]


def _above_zero(line: Line) -> Line:
    keep = line.x > 0
    low, high = (None if end is None else end[keep] for end in (line.low, line.high))
    return replace(line, x=line.x[keep], y=line.y[keep], low=low, high=high)


def _left_axis(plot: _Plot) -> Markup:
    """Ticks at the left, with light lines across."""
    ticks = plot.y_scale.ticks(6)
    marks = []
    for tick in ticks:
        y = plot.y(tick)
        marks.append(_path("grid", "M", plot.left, y, "H", plot.right))
        marks.append(element("text", tick_text(tick, ticks), x=plot.left - 6, y=y + 4, class_="tick end"))
    return join(marks)


def _bottom_axis(plot: _Plot, label: str, most: int) -> Markup:
    """Ticks below, with light lines up, and the axis' name at its middle."""
    ticks = plot.x_scale.ticks(most)
    marks = []
    for tick in ticks:
        x = plot.x(tick)
        marks.append(_path("grid", "M", x, plot.top, "V", plot.bottom))
        marks.append(element("text", tick_text(tick, ticks), x=x, y=plot.bottom + 17, class_="tick middle"))
    middle = (plot.left + plot.right) / 2
    return join([*marks, element("text", label, x=middle, y=plot.bottom + 37, class_="axis middle")])


def _band(plot: _Plot, line: Line, curve: Stretches) -> Markup | None:
    """The range of a condensed curve, least to largest; none where nothing was condensed."""
    if line.marked or curve.least is curve.mean:
        return None
    upper = plot.points(curve.x, curve.largest)
    lower = plot.points(curve.x[::-1], curve.least[::-1])
    return element("path", d=f"M{'L'.join(upper + lower)}Z", class_="band", fill=series_colour(line.series))


def _stroke(plot: _Plot, line: Line, curve: Stretches) -> Markup:
    """The curve; a marked one heavier, with a disc at each point and whiskers where there are intervals."""
    colour = series_colour(line.series)
    points = plot.points(curve.x, curve.mean)
    if not line.marked:
        return _path("curve", "M" + "L".join(points), stroke=colour)
    drawn = [_path("heavy", "M" + "L".join(points), stroke=colour)]
    if line.low is not None and line.high is not None:
        for x, low, high in zip(line.x.tolist(), line.low.tolist(), line.high.tolist(), strict=True):
            across, bottom, top = plot.x(x), plot.y(low), plot.y(high)
            ends = (across - 3, bottom, "h6M", across, bottom, "V", top, "M", across - 3, top, "h6")
            drawn.append(_path("whisker", "M", *ends, stroke=colour))
    return join([*drawn, _path("discs", "".join(f"M{point}h0" for point in points), stroke=colour)])


def _end_labels(plot: _Plot, curves: Sequence[tuple[Line, Stretches]], room: float) -> Markup:
    """Name the lines at their ends, those of one run together; names that would overlap are moved apart."""
    groups: dict[tuple[str, int | None], list[tuple[Line, Stretches]]] = {}
    for line, curve in curves:
        groups.setdefault((line.label, line.series), []).append((line, curve))
    ends = [[plot.y(float(curve.mean[-1])) for _, curve in group] for group in groups.values()]
    heights = [_label_height(len(group)) for group in groups.values()]
    middles = [sum(end) / len(end) for end in ends]
    centres = spread(middles, heights, low=plot.top - 12, high=plot.bottom + _BELOW)
    left, letters = plot.right + 26, math.floor((room - 26) / _LETTER)
    drawn = []
    for ((label, _), group), height, centre in zip(groups.items(), heights, centres, strict=True):
        y = centre - height / 2 + _LETTERS_HEIGHT
        drawn.append(element("text", clipped(label, letters), x=left, y=y, class_="name"))
        for line, curve in sorted(group, key=lambda pair: -float(pair[1].mean[-1])):
            y += _LETTERS_HEIGHT
            note = f"{line.note} {float(curve.mean[-1]):.2f}"
            drawn += _tie(plot, line, curve, y - 4)
            drawn.append(element("text", clipped(note, letters), x=left, y=y, class_="note"))
    return join(drawn)


def _tie(plot: _Plot, line: Line, curve: Stretches, y: float) -> list[Markup]:
    """From the end of a line to its name at height y: dots, then a piece of the line itself."""
    colour = series_colour(line.series)
    end = min(max(plot.y(float(curve.mean[-1])), plot.top), plot.bottom)
    steps = ("M", plot.x(float(curve.x[-1])), end, "H", plot.right + 2, "L", plot.right + 12, y)
    swatch = _path("heavy" if line.marked else "curve", "M", plot.right + 12, y, "h10", stroke=colour)
    return [_path("tie", *steps, stroke=colour), swatch]


def _label_height(num_lines: int) -> float:
    return _LETTERS_HEIGHT * (num_lines + 1) + 5


def _marks(plot: _Plot, track: Track, y: float) -> Markup:
    """The marks of a row, joined where there are two, with whiskers where there is an interval."""
    colour = series_colour(track.series)
    drawn = [_path("track", "M", plot.left, y, "H", plot.right)]
    places = [plot.x(mark.value) for mark in track.marks]
    if len(places) > 1:
        drawn.append(_path("gap", "M", min(places), y, "H", max(places), stroke=colour))
    for mark, x in zip(track.marks, places, strict=True):
        if mark.interval:
            low, high = (plot.x(end) for end in mark.interval)
            ends = (low, y - 6, "v12M", low, y, "H", high, "M", high, y - 6, "v12")
            drawn.append(_path("whisker", "M", *ends, stroke=colour))
        drawn.append(_disc(x, y, mark.measured, colour))
    return join(drawn)


def _disc(x: float, y: float, measured: bool, colour: str) -> Markup:
    """A disc for what was measured; a larger ring for what was planned, so that both show where they meet."""
    fill, radius = (colour, 4.0) if measured else ("none", 7.5)
    return element("circle", cx=x, cy=y, r=radius, class_="disc", fill=fill, stroke=colour)


def _key() -> Markup:
    """Which mark is the plan and which the measurement."""
    muted = series_colour(None)
    planned = [_disc(9.0, 10.0, False, muted), element("text", "planned", x=22, y=14, class_="note")]
    measured = [_disc(96.0, 10.0, True, muted), element("text", "measured", x=106, y=14, class_="note")]
    return join([*planned, *measured])
