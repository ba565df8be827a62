"""Pictures put every value where its axis says, name every line, and tell a reader who cannot see them."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.report.charts import (
    FRAMES,
    MOST_STRETCHES,
    Caption,
    Line,
    Mark,
    Track,
    clipped,
    line_chart,
    spanning,
    spread,
    track_chart,
)
from seedbed.report.palette import series_colour
from seedbed.report.scales import Scale

CAPTION = Caption("loss", "Loss over tokens", "From 3 to 1 bits per byte.")


def pictures(markup: str) -> list[ElementTree.Element]:
    """The wide and the narrow picture; parsing as XML proves that both are well formed."""
    return list(ElementTree.fromstring(markup.replace("&nbsp;", " ")))


def of_class(picture: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [part for part in picture.iter() if name in part.get("class", "").split()]


def texts(picture: ElementTree.Element) -> list[str]:
    return [part.text or "" for part in picture.iter("text")]


def numbers(path: ElementTree.Element) -> list[float]:
    return [float(text) for text in re.findall(r"-?\d+(?:\.\d+)?", path.get("d", ""))]


def across(path: ElementTree.Element) -> list[float]:
    """The horizontal places that a path moves to."""
    return [float(text) for text in re.findall(r"[MH]\s*(-?\d+(?:\.\d+)?)", path.get("d", ""))]


def box(picture: ElementTree.Element) -> tuple[float, float, float, float]:
    """The least and the largest x, then the least and the largest y, that a picture shows."""
    left, top, width, height = (float(edge) for edge in picture.get("viewBox", "").split())
    return left, left + width, top, top + height


def viewport(picture: ElementTree.Element) -> ElementTree.Element:
    """The picture inside a picture that cuts the curves at its edge; both have the same coordinates."""
    inner = list(picture.iter("svg"))[1]
    place = [float(inner.get(edge, "")) for edge in ("x", "y", "width", "height")]
    assert [float(edge) for edge in inner.get("viewBox", "").split()] == place
    return inner


class Axis:
    """An axis as a picture shows it: the values of its ticks, and the lines that they mark."""

    def __init__(self, picture: ElementTree.Element, *, up: bool = False) -> None:
        marks = [part for part in of_class(picture, "tick") if ("end" in part.get("class", "")) == up]
        grid = [part for part in of_class(picture, "grid") if ("H" in part.get("d", "")) == up]
        self.values = [float((mark.text or "").replace(",", "")) for mark in marks]
        self.places = [numbers(part)[1 if up else 0] for part in grid]
        assert len(self.values) == len(self.places) >= 2
        # Larger values are at the right and, as y of a picture falls upwards, at the top.
        beside = [float(mark.get("y" if up else "x", "")) for mark in marks]
        for rises in (self.values, [-y for y in self.places] if up else self.places):
            assert rises == sorted(rises)
        offsets = [mark - place for mark, place in zip(beside, self.places, strict=True)]
        assert max(offsets) - min(offsets) < 0.2, "each tick stands beside its own line"

    def place(self, value: float) -> float:
        """Where the ticks say that a value is, on a linear axis."""
        share = (value - self.values[0]) / (self.values[-1] - self.values[0])
        return self.places[0] + share * (self.places[-1] - self.places[0])


def line(*values: float, label: str = "LSTM", note: str = "held-out", marked: bool = True) -> Line:
    y = np.array(values)
    return Line(label, note, 0, np.arange(1.0, len(y) + 1), y, marked=marked)


def chart(*lines: Line, log_x: bool = False, y_scale: Scale | None = None) -> list[ElementTree.Element]:
    return pictures(
        line_chart(
            lines, caption=CAPTION, x_label="tokens", y_label="bits per byte", log_x=log_x, y_scale=y_scale
        )
    )


def test_each_picture_has_a_role_a_title_and_a_description() -> None:
    drawn = chart(line(3, 2, 1))
    assert [picture.get("class") for picture in drawn] == [frame.name for frame in FRAMES]
    ids = [part.get("id") for picture in drawn for part in picture.iter() if part.get("id")]
    assert len(ids) == len(set(ids)) == 4
    for picture in drawn:
        assert picture.get("role") == "img"
        named = {part.get("id"): part.text for part in picture.iter() if part.get("id")}
        assert named[picture.get("aria-labelledby")] == CAPTION.title
        assert named[picture.get("aria-describedby")] == CAPTION.description


def test_points_lie_where_the_axes_say() -> None:
    for picture in chart(line(3, 2, 1), y_scale=Scale(0.0, 4.0)):
        (stroke,) = of_class(viewport(picture), "heavy")
        places = np.array(numbers(stroke)).reshape(-1, 2)
        x_axis, y_axis = Axis(picture), Axis(picture, up=True)
        assert (y_axis.values[0], y_axis.values[-1]) == (0, 4)
        assert places[:, 0] == pytest.approx([x_axis.place(x) for x in (1, 2, 3)], abs=0.2)
        assert places[:, 1] == pytest.approx([y_axis.place(y) for y in (3, 2, 1)], abs=0.2)
        left, right, top, bottom = box(viewport(picture))
        assert left < places[:, 0].min() and places[:, 0].max() < right
        assert top < places[:, 1].min() and places[:, 1].max() < bottom


def test_a_logarithmic_axis_is_marked_so_and_leaves_out_zero() -> None:
    curve = Line("LSTM", "training", 0, np.array([0.0, 1.0, 10.0, 100.0]), np.array([9.0, 3.0, 2.0, 1.0]))
    picture = chart(curve, log_x=True)[0]
    assert [text for text in texts(picture) if "tokens" in text and "logarithmic" in text]
    (stroke,) = [part for part in of_class(picture, "curve") if len(numbers(part)) > 3]
    first, second, third = numbers(stroke)[::2]
    assert second - first == pytest.approx(third - second, abs=0.2) and second - first > 1
    linear = texts(chart(curve)[0])
    assert "tokens" in linear and not any("logarithmic" in text for text in linear)


def test_lines_are_named_at_their_ends_with_their_last_value() -> None:
    both = chart(line(3, 2, 1.25), line(3, 2.5, 1.5, note="training", marked=False))
    for picture in both:
        for name, last in (("held-out", "1.25"), ("training", "1.50")):
            (label,) = [part for part in picture.iter("text") if name in (part.text or "")]
            assert last in (label.text or "")
            left, right, top, bottom = box(picture)
            assert left < float(label.get("x", "")) < right and top < float(label.get("y", "")) < bottom
            assert float(label.get("x", "")) > box(viewport(picture))[1]
        # The lines of one run share its name; in a picture of the two there is no other legend.
        assert texts(picture).count("LSTM") == 1


def test_a_long_curve_becomes_a_mean_with_a_band_that_holds_every_point() -> None:
    generator = np.random.default_rng(0)
    y = 2 + generator.normal(0, 0.3, 5000)
    x = np.arange(1.0, 5001.0)
    y[2500] = 9.0
    for picture in chart(Line("LSTM", "training", 0, x, y), y_scale=Scale(0.0, 10.0)):
        (stroke,) = [part for part in of_class(picture, "curve") if len(numbers(part)) > 3]
        assert 0.9 * MOST_STRETCHES < len(numbers(stroke)) / 2 <= MOST_STRETCHES
        (band,) = of_class(picture, "band")
        heights = numbers(band)[1::2]
        y_axis = Axis(picture, up=True)
        assert min(heights) == pytest.approx(y_axis.place(9.0), abs=0.2)
        assert max(heights) == pytest.approx(y_axis.place(y.min()), abs=0.2)


def test_a_short_curve_has_no_band() -> None:
    assert not of_class(chart(line(3, 2, 1, marked=False))[0], "band")


def test_an_axis_holds_every_line_and_interval() -> None:
    y = np.array([3.0, 2.0])
    with_interval = Line("LSTM", "held-out", 0, np.array([1.0, 2.0]), y, True, low=y - 1, high=y + 1)
    scale = spanning([with_interval, line(2.5, 2.4)], log_x=False)
    assert scale.low <= 1.0 and scale.high >= 4.0
    assert len(of_class(chart(with_interval)[0], "whisker")) == 2


def test_a_spike_beyond_the_axis_is_no_coordinate() -> None:
    for picture in chart(line(3, 1e30, 1), y_scale=Scale(0.0, 4.0)):
        furthest = max(abs(place) for part in picture.iter("path") for place in numbers(part))
        assert furthest < 5 * max(box(picture))


@given(
    places=st.lists(st.floats(0, 300), min_size=1, max_size=6),
    height=st.floats(10, 40),
)
def test_labels_never_overlap_and_keep_their_order(places: list[float], height: float) -> None:
    heights = [height] * len(places)
    centres = spread(places, heights, low=0, high=300)
    ordered = [centre for _, centre in sorted(zip(places, centres, strict=True))]
    assert all(after - before >= height - 1e-6 for before, after in itertools.pairwise(ordered))
    if sum(heights) <= 300:
        assert min(centres) >= height / 2 - 1e-6 and max(centres) <= 300 - height / 2 + 1e-6


def test_labels_that_have_room_stay_where_they_are() -> None:
    assert spread([50.0, 200.0, 120.0], [30.0, 30.0, 30.0], low=0, high=300) == [50.0, 200.0, 120.0]


def test_long_names_keep_both_ends() -> None:
    start, end = clipped("a-rather-long-name-1", 9).split("\u2026")
    assert start and "a-rather-long-name-1".startswith(start)
    assert len(end) > 2 and "a-rather-long-name-1".endswith(end)
    assert len(start) + 1 + len(end) == 9
    assert clipped("short", 9) == "short"


def test_planned_and_measured_are_a_ring_and_a_disc_joined_on_an_axis_from_zero() -> None:
    track = Track("LSTM", "400 \u2192 412, ratio 1.03", 1, (Mark(400.0, measured=False), Mark(412.0)))
    for picture in pictures(track_chart([track], caption=CAPTION, x_label="MiB", key=True)):
        assert {"planned", "measured", "MiB", "0", "LSTM", "400 \u2192 412, ratio 1.03"} <= set(
            texts(picture)
        )
        *_, ring, disc = picture.iter("circle")
        assert ring.get("fill") == "none" and disc.get("fill") == series_colour(1)
        assert float(ring.get("r", "")) > float(disc.get("r", "")), "both show where they meet"
        (gap,) = of_class(picture, "gap")
        places = [float(mark.get("cx", "")) for mark in (ring, disc)]
        assert across(gap) == places
        axis = Axis(picture)
        assert axis.values[0] == 0
        assert places == pytest.approx([axis.place(400), axis.place(412)], abs=0.2)
        left, right, _, _ = box(picture)
        assert left < min(places) and max(places) < right


def test_an_interval_is_drawn_as_whiskers() -> None:
    track = Track("LSTM", "5 (4 to 8)", 0, (Mark(5.0, interval=(4.0, 8.0)),))
    for picture in pictures(track_chart([track], caption=CAPTION, x_label="tokens/s")):
        (whisker,) = of_class(picture, "whisker")
        axis, places = Axis(picture), across(whisker)
        assert [min(places), max(places)] == pytest.approx([axis.place(4.0), axis.place(8.0)], abs=0.2)
        left, right, _, _ = box(picture)
        assert left < min(places) and max(places) < right
