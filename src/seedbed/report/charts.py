"""Pictures as strokes and words, and the line chart: curves labelled at their ends, with bands or whiskers.

A picture is drawn once, for a place as wide as a phone, and scales with its place; the style sheet makes the
letters of a larger one smaller. Colours are classes of the style sheet, which has them in light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seedbed.report.page import WIDTH, Figure, Mark, Name, Stroke, Word
from seedbed.report.scales import Scale, Values, scale_around
from seedbed.report.units import Unit

LETTER = 6.8  # mean width of a letter at 13 px in the system fonts, on the safe side
MOST_STRETCHES = 160
_LEFT, _TOP, _RIGHT = 40.0, 26.0, WIDTH - 124.0  # of a plot; right of it are the names of its lines
_LEAST_HEIGHT = 172.0
_MOST_TICKS = 5
_LABEL_HEIGHT = 34.0  # a name and its note
_BELOW = 30.0  # that names may reach below the plot, beside the numbers of its axis


@dataclass(frozen=True)
class Line:
    """A curve: x and y are (num_points,) and finite, x does not fall. `note` is before its last value.

    A marked line shows its points, and `low` and `high`, (num_points,) each, as their intervals where these
    are finite; of any other line they are the edges of a band.
    """

    name: Name
    note: str
    x: Values
    y: Values
    marked: bool = False
    low: Values | None = None
    high: Values | None = None

    def part(self, chosen: Any, x_size: float = 1.0, y_size: float = 1.0) -> Line:
        """The points that an index of NumPy chooses, in units of these sizes."""
        low, high = (None if end is None else end[chosen] / y_size for end in (self.low, self.high))
        return replace(self, x=self.x[chosen] / x_size, y=self.y[chosen] / y_size, low=low, high=high)


def line_figure(
    name: str, title: str, lines: Sequence[Line], x: Unit, y: Unit, *, log_y: bool = False
) -> Figure | None:
    """Curves over a common axis; None of none. Their values are in base units, the axes in x and y.

    A horizontal axis that spans ratios of 20 and more is logarithmic; a logarithmic axis leaves out values of
    zero or below.
    """
    above = np.concatenate([np.zeros(0), *(line.x[line.x > 0] for line in lines)])
    log_x = len(above) > 1 and float(above.max()) >= 20 * float(above.min())
    least_x, least_y = (0.0 if log else -np.inf for log in (log_x, log_y))
    shown = [line.part((line.x > least_x) & (line.y > least_y), x.size, y.size) for line in lines]
    shown = [line for line in shown if len(line.x)]
    if not shown:
        return None
    bottom = _TOP + max(_LEAST_HEIGHT, _LABEL_HEIGHT * len(shown))
    ends = [float(end) for line in shown for end in (line.x[0], line.x[-1])]
    x_scale = scale_around(ends, _LEFT, _RIGHT, logarithmic=log_x, from_zero=True)
    shown = [condense(line, x_scale, MOST_STRETCHES) for line in shown]
    columns = [(line.y, line.low, line.high) if line.marked else (line.y,) for line in shown]
    known = np.concatenate([values for some in columns for values in some if values is not None])
    known = known[np.isfinite(known) & (known > least_y)]
    y_scale = scale_around([known.min(), known.max()], bottom, _TOP, logarithmic=log_y)
    marks = [
        Word("axis", 0.0, 13.0, y.name + " (logarithmic)" * log_y),
        *_left_axis(y_scale),
        *bottom_axis(x_scale, x.name + " (logarithmic)" * log_x, _TOP, bottom),
        *(mark for line in shown for mark in _curve(line, x_scale, y_scale)),
        *_end_labels(shown, x_scale, y_scale, y),
    ]
    spans = [
        f"{i.name.text} {i.note} from {i.y[0]:.{y.decimals}f} to {i.y[-1]:.{y.decimals}f}" for i in shown
    ]
    reach = max(float(line.x[-1]) for line in shown)
    description = f"{'; '.join(spans)} {y.name}, over {reach:,.3g} {x.name}."
    return Figure(name, f"{title}, {y.name}", description, marks, bottom + 44, f"{title}.")


def condense(line: Line, scale: Scale, most: int) -> Line:
    """Condense a long curve to at most `most` stretches of equal width on its axis.

    Of a marked line the last point of each stretch stays; of any other its mean, in a band from the least to
    the largest value, so that nothing is hidden.
    """
    if len(line.x) <= most:
        return line
    shares = (scale.places(line.x) - scale.start) / (scale.end - scale.start)
    stretch = np.clip((shares * most).astype(np.int64), 0, most - 1)
    starts = np.flatnonzero(np.diff(stretch, prepend=-1))
    ends = np.append(starts[1:], len(line.x))
    if line.marked:
        return line.part(ends - 1)
    x, y = (np.add.reduceat(values, starts) / (ends - starts) for values in (line.x, line.y))
    low, high = (extreme.reduceat(line.y, starts) for extreme in (np.minimum, np.maximum))
    return replace(line, x=x, y=y, low=low, high=high)


def stroke(look: str, *steps: str | float) -> Stroke:
    """A path from letters and coordinates."""
    return Stroke(look, " ".join(step if isinstance(step, str) else _place(step) for step in steps))


def _place(coordinate: float) -> str:
    return f"{round(coordinate, 1):g}"  # a tenth of a pixel is enough


def bottom_axis(scale: Scale, label: str, top: float, bottom: float) -> list[Mark]:
    """Ticks below a plot, with light lines up, and the name of the axis at its middle."""
    marks: list[Mark] = [Word("axis middle", (scale.start + scale.end) / 2, bottom + 37, label)]
    for tick, text in scale.ticks(_MOST_TICKS):
        x = scale.place(tick)
        marks += [stroke("grid", "M", x, top, "V", bottom), Word("tick middle", x, bottom + 17, text)]
    return marks


def _left_axis(scale: Scale) -> list[Mark]:
    marks: list[Mark] = []
    for tick, text in scale.ticks(_MOST_TICKS):
        y = scale.place(tick)
        marks += [stroke("grid", "M", _LEFT, y, "H", _RIGHT), Word("tick end", _LEFT - 6, y + 4, text)]
    return marks


def _curve(line: Line, x_scale: Scale, y_scale: Scale) -> list[Mark]:
    """A curve in its band; a marked one heavier, with a disc at each point and whiskers."""
    colour, x = line.name.colour, x_scale.places(line.x)
    points = _points(x, y_scale.places(line.y))
    low, high = (None if end is None else y_scale.places(end) for end in (line.low, line.high))
    if not line.marked:
        marks: list[Mark] = [stroke(f"curve {colour}", "M", "L".join(points))]
        if low is not None and high is not None:
            edge = _points(x, high) + _points(x[::-1], low[::-1])
            marks.insert(0, stroke(f"band {colour}", "M", "L".join(edge), "Z"))
        return marks
    marks = [stroke(f"heavy {colour}", "M", "L".join(points))]
    if low is not None and high is not None:
        known = np.isfinite(low) & np.isfinite(high)
        for at, bottom, top in np.stack([x, low, high], 1)[known].tolist():
            ends = (at - 3, bottom, "h6M", at, bottom, "V", top, "M", at - 3, top, "h6")
            marks.append(stroke(f"whisker {colour}", "M", *ends))
    return [*marks, stroke(f"discs {colour}", "".join(f"M{point}h0" for point in points))]


def _points(x: Values, y: Values) -> list[str]:
    return [f"{_place(across)} {_place(up)}" for across, up in zip(x.tolist(), y.tolist(), strict=True)]


def _end_labels(lines: Sequence[Line], x_scale: Scale, y_scale: Scale, unit: Unit) -> list[Mark]:
    """Name the lines at their ends; names that would overlap are moved apart."""
    letters = math.floor((WIDTH - _RIGHT - 26) / LETTER)
    ends = [y_scale.place(float(line.y[-1])) for line in lines]
    centres = spread(ends, _LABEL_HEIGHT, low=_TOP - 12, high=y_scale.start + _BELOW)
    marks: list[Mark] = []
    for line, end, y in zip(lines, ends, centres, strict=True):
        colour, note = line.name.colour, f"{line.note} {float(line.y[-1]):.{unit.decimals}f}"
        tie = ("M", x_scale.place(float(line.x[-1])), end, "H", _RIGHT + 2, "L", _RIGHT + 12, y)
        marks += [
            stroke(f"tie {colour}", *tie),
            stroke(f"{'heavy' if line.marked else 'curve'} {colour}", "M", _RIGHT + 12, y, "h10"),
            Word("name", _RIGHT + 26, y - 3, clipped(line.name.text, letters)),
            Word("note", _RIGHT + 26, y + 12, clipped(note, letters)),
        ]
    return marks


def clipped(text: str, letters: int) -> str:
    """Shorten a text to so many letters with an ellipsis in its middle: names often differ at their end."""
    if len(text) <= letters:
        return text
    head = letters // 2
    return f"{text[:head]}\u2026{text[head + 1 - letters :]}"


def spread(desired: Sequence[float], height: float, *, low: float, high: float) -> list[float]:
    """Move the centres of labels apart, as little as their order allows, between low and high."""
    order = sorted(range(len(desired)), key=lambda index: desired[index])
    centres, floor, ceiling = list(desired), low + height / 2, high - height / 2
    for index in order:
        centres[index] = max(desired[index], floor)
        floor = centres[index] + height
    for index in reversed(order):
        centres[index] = min(centres[index], ceiling)
        ceiling = centres[index] - height
    return centres
