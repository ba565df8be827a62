"""Pictures as inline SVG, and the line chart: curves labelled at their ends, with bands or whiskers.

A picture is drawn once, for a place as wide as a phone, and scales with its place; the style sheet makes the
letters of a larger one smaller. Colours are classes of the style sheet, which has them in light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seedbed.report.markup import Markup, compact, element, series_class
from seedbed.report.page import Figure, Name
from seedbed.report.scales import Scale, Stretches, Values, condense, linear, logarithmic, tick_text
from seedbed.report.units import Unit

WIDTH = 360.0
LETTER = 6.8  # mean width of a letter at 13 px in the system fonts, on the safe side
MOST_STRETCHES = 160
_LABELS = 124.0  # width right of a plot for the names of its lines
_MOST_TICKS = 5
_LINE_HEIGHT = 15.0
_BELOW = 30.0  # that names may reach below the plot, beside the numbers of its axis


@dataclass(frozen=True)
class Line:
    """A curve: x and y are (num_points,) and finite, x does not fall. `note` is before its last value.

    A marked line shows its points, and `low` and `high`, (num_points,) each, as their intervals where these
    are finite; any other line shows a band where it was condensed.
    """

    name: Name
    note: str
    x: Values
    y: Values
    marked: bool = False
    low: Values | None = None
    high: Values | None = None


@dataclass(frozen=True)
class Plot:
    """The edges of a plot, and its two axes."""

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
        """The place of a value of the vertical axis, a spike of 1e30 just outside the plot."""
        share = -1.0 if self.y_scale.logarithmic and value <= 0 else self.y_scale.fraction(value)
        return self.bottom - (self.bottom - self.top) * min(max(share, -1.0), 2.0)

    def points(self, x: Values, y: Values) -> list[str]:
        """The points of a curve as path coordinates."""
        pairs = zip(x.tolist(), y.tolist(), strict=True)
        return [f"{compact(self.x(across))} {compact(self.y(up))}" for across, up in pairs]


_Curve = tuple[Line, Stretches]


def line_figure(
    name: str,
    title: str,
    lines: Sequence[Line],
    x: Unit,
    y: Unit,
    *,
    y_scale: Scale | None = None,
    log_y: bool = False,
) -> Figure | None:
    """Curves over a common axis; None of none. Their values are in base units, the axes in x and y.

    A horizontal axis that spans ratios of 20 and more is logarithmic; a logarithmic axis leaves out values of
    zero or below. `y_scale` lets several pictures share an axis, `spanning` makes one.
    """
    x_scale, curves = _condensed(lines, x, y, log_y)
    if not curves:
        return None
    groups: dict[Name, list[_Curve]] = {}
    for line, curve in curves:
        groups.setdefault(line.name, []).append((line, curve))
    height = max(172.0, sum(_label_height(group) for group in groups.values()))
    plot = Plot(40.0, 26.0, WIDTH - _LABELS, 26.0 + height, x_scale, y_scale or _spanning(curves, log_y))
    # The inner picture cuts a band at the edge of the plot; a point on the edge is drawn whole.
    box = (plot.left - 3, plot.top - 3, plot.right - plot.left + 6, plot.bottom - plot.top + 6)
    inner = dict(zip(("x", "y", "width", "height"), box, strict=True))
    drawn = [
        part for line, curve in curves for part in (_band(plot, line, curve), _stroke(plot, line, curve))
    ]
    content = [
        element("text", _axis_name(y, plot.y_scale), x=0, y=13, class_="axis"),
        *_left_axis(plot),
        *bottom_axis(plot, _axis_name(x, x_scale)),
        element("svg", *drawn, viewBox=_box(*box), **inner),
        *_end_labels(plot, list(groups.values()), y),
    ]
    ends = [
        f"{i.name.text} {i.note} from {i.y[0]:.{y.decimals}f} to {i.y[-1]:.{y.decimals}f}" for i, _ in curves
    ]
    reach = max(float(line.x[-1]) for line, _ in curves)
    description = f"{'; '.join(ends)} {y.name}, over {reach:,.3g} {x.name}."
    return Figure(picture(name, f"{title}, {y.name}", description, plot.bottom + 44, content), f"{title}.")


def spanning(lines: Sequence[Line], x: Unit, y: Unit, *, log_y: bool = False) -> Scale:
    """A vertical axis for every drawn line and interval; of bands, what is beyond it is cut."""
    return _spanning(_condensed(lines, x, y, log_y)[1], log_y)


def _spanning(curves: Sequence[_Curve], log_y: bool) -> Scale:
    drawn = [values for line, curve in curves for values in (curve.mean, line.low, line.high)]
    known = np.concatenate([values for values in drawn if values is not None])
    known = known[np.isfinite(known) & (known > (0 if log_y else -np.inf))]
    return (logarithmic if log_y else linear)([float(known.min()), float(known.max())])


def _condensed(lines: Sequence[Line], x: Unit, y: Unit, log_y: bool) -> tuple[Scale, list[_Curve]]:
    """The horizontal axis, and the condensed curves on it, in the units of the axes."""
    above = np.concatenate([np.zeros(0), *(line.x[line.x > 0] for line in lines)])
    log_x = len(above) > 1 and float(above.max()) >= 20 * float(above.min())
    shown = []
    for line in lines:
        keep = (line.x > (0 if log_x else -np.inf)) & (line.y > (0 if log_y else -np.inf))
        low, high = (None if end is None else end[keep] / y.size for end in (line.low, line.high))
        shown.append(replace(line, x=line.x[keep] / x.size, y=line.y[keep] / y.size, low=low, high=high))
    shown = [line for line in shown if len(line.x)]
    ends = [float(end) for line in shown for end in (line.x[0], line.x[-1])]
    scale = logarithmic(ends) if log_x else linear(ends, from_zero=True)
    return scale, [(line, condense(line.x, line.y, scale=scale, most=MOST_STRETCHES)) for line in shown]


def picture(name: str, title: str, description: str, height: float, content: Sequence[Markup]) -> Markup:
    """A picture with the words for a reader who does not see it; `name` is unique on its page."""
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-text"),
        *content,
        class_="chart",
        viewBox=_box(0.0, 0.0, WIDTH, height),
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-text",
    )


def path(class_: str, *steps: str | float) -> Markup:
    """A path from letters and coordinates."""
    d = " ".join(compact(step) if isinstance(step, float) else step for step in steps)
    return element("path", d=d, class_=class_)


def bottom_axis(plot: Plot, label: str) -> list[Markup]:
    """Ticks below, with light lines up, and the name of the axis at its middle."""
    marks, ticks = [], plot.x_scale.ticks(_MOST_TICKS)
    for tick in ticks:
        x = plot.x(tick)
        marks.append(path("grid", "M", x, plot.top, "V", plot.bottom))
        marks.append(element("text", tick_text(tick, ticks), x=x, y=plot.bottom + 17, class_="tick middle"))
    middle = (plot.left + plot.right) / 2
    return [*marks, element("text", label, x=middle, y=plot.bottom + 37, class_="axis middle")]


def spread(wanted: Sequence[float], heights: Sequence[float], *, low: float, high: float) -> list[float]:
    """Move the centres of labels apart, as little as their order allows, between low and high."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    centres, floor, ceiling = list(wanted), low, high
    for index in order:
        centres[index] = max(wanted[index], floor + heights[index] / 2)
        floor = centres[index] + heights[index] / 2
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


def _box(*edges: float) -> str:
    return " ".join(map(compact, edges))


def _axis_name(unit: Unit, scale: Scale) -> str:
    return f"{unit.name} (logarithmic)" if scale.logarithmic else unit.name


def _left_axis(plot: Plot) -> list[Markup]:
    """Ticks at the left, with light lines across."""
    marks, ticks = [], plot.y_scale.ticks(_MOST_TICKS)
    for tick in ticks:
        y = plot.y(tick)
        marks.append(path("grid", "M", plot.left, y, "H", plot.right))
        marks.append(element("text", tick_text(tick, ticks), x=plot.left - 6, y=y + 4, class_="tick end"))
    return marks


def _band(plot: Plot, line: Line, curve: Stretches) -> Markup | None:
    """The range of a condensed curve, least to largest; none where nothing was condensed."""
    if line.marked or curve.least is curve.mean:
        return None
    edge = plot.points(curve.x, curve.largest) + plot.points(curve.x[::-1], curve.least[::-1])
    return element("path", d=f"M{'L'.join(edge)}Z", class_=f"band {series_class(line.name.series)}")


def _stroke(plot: Plot, line: Line, curve: Stretches) -> Markup:
    """The curve; a marked one heavier, with a disc at each point and whiskers where there are intervals."""
    points = plot.points(curve.x, curve.mean)
    drawn = [path("heavy" if line.marked else "curve", "M" + "L".join(points))]
    if line.marked and line.low is not None and line.high is not None:
        known = np.isfinite(line.low) & np.isfinite(line.high)
        for x, low, high in np.stack([line.x, line.low, line.high], 1)[known].tolist():
            across, bottom, top = plot.x(x), plot.y(low), plot.y(high)
            ends = (across - 3, bottom, "h6M", across, bottom, "V", top, "M", across - 3, top, "h6")
            drawn.append(path("whisker", "M", *ends))
    if line.marked:
        drawn.append(path("discs", "".join(f"M{point}h0" for point in points)))
    return element("g", *drawn, class_=series_class(line.name.series))


def _end_labels(plot: Plot, groups: Sequence[Sequence[_Curve]], unit: Unit) -> list[Markup]:
    """Name the lines at their ends; names that would overlap are moved apart."""
    lasts = [[plot.y(float(curve.mean[-1])) for _, curve in group] for group in groups]
    heights = list(map(_label_height, groups))
    middles = [sum(last) / len(last) for last in lasts]
    centres = spread(middles, heights, low=plot.top - 12, high=plot.bottom + _BELOW)
    left, letters = plot.right + 26, math.floor((_LABELS - 26) / LETTER)
    drawn = []
    for group, height, centre in zip(groups, heights, centres, strict=True):
        y = centre - height / 2 + _LINE_HEIGHT
        drawn.append(element("text", clipped(group[0][0].name.text, letters), x=left, y=y, class_="name"))
        for line, curve in sorted(group, key=lambda pair: -float(pair[1].mean[-1])):
            y += _LINE_HEIGHT
            note = f"{line.note} {float(curve.mean[-1]):.{unit.decimals}f}"
            drawn.append(_tie(plot, line, curve, y - 4))
            drawn.append(element("text", clipped(note, letters), x=left, y=y, class_="note"))
    return drawn


def _tie(plot: Plot, line: Line, curve: Stretches, y: float) -> Markup:
    """From the end of a line to its name at height y: dots, then a short line like the curve."""
    end = min(max(plot.y(float(curve.mean[-1])), plot.top), plot.bottom)
    dots = path("tie", "M", plot.x(float(curve.x[-1])), end, "H", plot.right + 2, "L", plot.right + 12, y)
    sample = path("heavy" if line.marked else "curve", "M", plot.right + 12, y, "h10")
    return element("g", dots, sample, class_=series_class(line.name.series))


def _label_height(group: Sequence[_Curve]) -> float:
    return _LINE_HEIGHT * (len(group) + 1) + 5
