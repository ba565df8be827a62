"""Pictures put every value where its axis says, name every line, and describe it to who cannot see it."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.report.charts import MOST_STRETCHES, Line, clipped, condense, line_figure, spread
from seedbed.report.page import WIDTH, Figure, Figures, Name, Page, Section
from seedbed.report.scales import Scale, scale_around
from seedbed.report.tracks import track_figure
from seedbed.report.units import PERCENT, Measured, Unit

TOKENS, BITS = Unit("tokens"), Unit("bits per byte", decimals=2)


def parsed(figure: Figure | None) -> ElementTree.Element:
    """The picture of a figure; parsing as XML proves that it is well formed."""
    assert figure is not None
    page = Page("a", "b", [Section("c", "d", [Figures([figure])])]).html()
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])


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


def plot(picture: ElementTree.Element) -> tuple[float, float, float, float]:
    """The least and the largest x, then the least and the largest y, of the lines of the grid."""
    across, up = (
        [numbers(part) for part in of_class(picture, "grid") if end in part.get("d", "")] for end in "HV"
    )
    return across[0][0], across[0][2], up[0][1], up[0][2]


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


def line(*values: float, name: str = "LSTM", note: str = "held-out", marked: bool = True) -> Line:
    y = np.array(values)
    return Line(Name(name, 0), note, np.arange(1.0, len(y) + 1), y, marked)


def chart(*lines: Line, log_y: bool = False) -> ElementTree.Element:
    return parsed(line_figure("loss", "Loss over tokens", lines, TOKENS, BITS, log_y=log_y))


def curve(picture: ElementTree.Element, look: str = "curve") -> list[float]:
    """The places of the points of the one curve, without the samples of lines beside their names."""
    (stroke,) = [part for part in of_class(picture, look) if len(numbers(part)) > 3]
    return numbers(stroke)


def test_a_picture_scales_and_has_a_role_a_title_and_a_description() -> None:
    picture = chart(line(3, 2, 1))
    assert picture.get("viewBox", "").startswith(f"0 0 {WIDTH} ")
    assert not {"width", "height", "style"} & set(picture.keys())
    named = {part.get("id"): part.text or "" for part in picture.iter() if part.get("id")}
    assert picture.get("role") == "img" and len(named) == 2
    assert named[picture.get("aria-labelledby")] == "Loss over tokens, bits per byte"
    assert "LSTM held-out from 3.00 to 1.00 bits per byte" in named[picture.get("aria-describedby")]


def test_nothing_to_draw_is_no_picture() -> None:
    assert line_figure("a", "b", [], TOKENS, BITS) is None
    assert line_figure("a", "b", [line(0.0, -1.0)], TOKENS, BITS, log_y=True) is None
    assert track_figure("a", "b", [Name("c")], [None], BITS) is None
    assert track_figure("a", "b", [Name("c")], [None], BITS, planned=[None]) is None


def test_points_are_where_the_axes_say() -> None:
    picture = chart(line(3, 2, 1))
    places = np.array(curve(picture, "heavy")).reshape(-1, 2)
    x_axis, y_axis = Axis(picture), Axis(picture, up=True)
    assert (y_axis.values[0], y_axis.values[-1]) == (1, 3)
    assert places[:, 0] == pytest.approx([x_axis.place(x) for x in (1, 2, 3)], abs=0.2)
    assert places[:, 1] == pytest.approx([y_axis.place(y) for y in (3, 2, 1)], abs=0.2)
    left, right, top, bottom = plot(picture)
    assert left < places[:, 0].min() and places[:, 0].max() < right
    assert top < places[:, 1].min() and places[:, 1].max() < bottom


def test_values_are_drawn_in_the_units_of_the_axes() -> None:
    shares = Line(Name("a"), "held-out", np.array([1e6, 2e6]), np.array([0.5, 0.8]), True)
    picture = parsed(line_figure("a", "b", [shares], Unit("million tokens", 1e6), PERCENT))
    x_axis, y_axis = Axis(picture), Axis(picture, up=True)
    assert curve(picture, "heavy") == pytest.approx(
        [x_axis.place(1), y_axis.place(50), x_axis.place(2), y_axis.place(80)], abs=0.2
    )
    assert "held-out 80.0" in texts(picture)


def test_an_axis_of_ratios_is_logarithmic_is_marked_so_and_leaves_out_zero() -> None:
    x, y = np.array([0.0, 1.0, 10.0, 100.0]), np.array([9.0, 3.0, 2.0, 1.0])
    picture = chart(Line(Name("LSTM"), "training", x, y))
    assert [text for text in texts(picture) if "tokens" in text and "logarithmic" in text]
    first, second, third = curve(picture)[::2]
    assert second - first == pytest.approx(third - second, abs=0.2) and second - first > 1
    linear = texts(chart(line(3, 2, 1)))
    assert "tokens" in linear and not any("logarithmic" in text for text in linear)


def test_both_axes_may_be_logarithmic() -> None:
    x = np.array([1.0, 10.0, 100.0])
    picture = chart(Line(Name("law"), "fit", x, np.array([100.0, 10.0, 1.0])), log_y=True)
    assert {"tokens (logarithmic)", "bits per byte (logarithmic)"} <= set(texts(picture))
    heights = curve(picture)[1::2]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)


def test_lines_are_named_at_their_ends_with_their_last_value() -> None:
    picture = chart(line(3, 2, 1.25), line(3, 2.5, 1.5, note="training", marked=False))
    for name, last in (("held-out", "1.25"), ("training", "1.50")):
        (label,) = [part for part in picture.iter("text") if name in (part.text or "")]
        assert last in (label.text or "")
        left, right, top, bottom = box(picture)
        assert left < float(label.get("x", "")) < right and top < float(label.get("y", "")) < bottom
        assert float(label.get("x", "")) > plot(picture)[1]
    # There is no other legend.
    assert texts(picture).count("LSTM") == 2


def test_a_long_curve_becomes_a_mean_with_a_band_that_holds_every_point() -> None:
    generator = np.random.default_rng(0)
    y = 2 + generator.normal(0, 0.3, 5000)
    x = np.arange(1.0, 5001.0)
    y[2500] = 9.0
    picture = chart(
        Line(Name("LSTM"), "training", x + 1000, y),
        Line(Name("a"), "b", x[:2] + 1000, y[:2] * 0 + [0.5, 9.5], True),
    )
    assert 0.75 * MOST_STRETCHES < len(curve(picture)) / 2 <= MOST_STRETCHES
    (band,) = of_class(picture, "band")
    heights = numbers(band)[1::2]
    y_axis = Axis(picture, up=True)
    assert min(heights) == pytest.approx(y_axis.place(9.0), abs=0.2)
    assert max(heights) == pytest.approx(y_axis.place(y.min()), abs=0.2)


def test_a_band_is_cut_at_the_edge_of_the_plot() -> None:
    y = np.where(np.arange(5000) % 100 == 50, 90.0, 2.0)
    picture = chart(Line(Name("LSTM"), "training", np.arange(1.0, 5001.0), y))
    (band,) = of_class(picture, "band")
    assert min(numbers(band)[1::2]) == plot(picture)[2]


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400),
    most=st.integers(1, 60),
    log=st.booleans(),
)
def test_condensing_keeps_extremes_and_the_mean(values: list[float], most: int, log: bool) -> None:
    x, y = np.arange(1.0, len(values) + 1), np.array(values)
    scale = scale_around([1.0, float(len(values))], 40.0, 236.0, logarithmic=log)
    shown = condense(Line(Name("a"), "b", x, y), scale, most)
    assert len(shown.x) <= max(most, 1) or len(shown.x) == len(x) <= most
    low, high = (shown.y, shown.y) if shown.low is None else (shown.low, shown.high)
    assert high is not None and low.min() == y.min() and high.max() == y.max()
    assert (low <= shown.y + 1e-6).all() and (shown.y <= high + 1e-6).all()
    assert (np.diff(shown.x) > 0).all()


def test_condensing_takes_the_mean_of_each_stretch() -> None:
    x, y = np.arange(0.0, 8.0), np.array([1.0, 3.0, 5.0, 7.0, 0.0, 4.0, 4.0, 0.0])
    shown = condense(Line(Name("a"), "b", x, y), Scale(0.0, 8.0, 10.0, 20.0), 2)
    assert shown.y.tolist() == [4.0, 2.0] and shown.x.tolist() == [1.5, 5.5]
    assert shown.low is not None and shown.low.tolist() == [1.0, 0.0]
    assert shown.high is not None and shown.high.tolist() == [7.0, 4.0]


def test_condensing_keeps_points_of_a_marked_line_with_their_intervals() -> None:
    x, y = np.arange(0.0, 8.0), np.arange(8.0)
    shown = condense(Line(Name("a"), "b", x, y, True, y - 1, y + 1), Scale(0.0, 8.0), 2)
    assert shown.x.tolist() == shown.y.tolist() == [3.0, 7.0]
    assert shown.low is not None and shown.low.tolist() == [2.0, 6.0]


def test_a_short_curve_stays_as_it_is_and_has_no_band() -> None:
    short = line(3, 2, 1, marked=False)
    assert condense(short, Scale(0.0, 4.0), 3) is short
    assert not of_class(chart(line(3, 2, 1, marked=False)), "band")


def test_an_axis_holds_every_line_and_interval() -> None:
    y = np.array([3.0, 2.0])
    with_interval = Line(Name("LSTM"), "held-out", np.array([1.0, 2.0]), y, True, low=y - 1, high=y + 1)
    picture = chart(with_interval, line(2.5, 2.4))
    y_axis, whiskers = Axis(picture, up=True), of_class(picture, "whisker")
    ends = [
        sorted(float(t) for t in re.findall(r"(?:V |M [\d.-]+ )(-?[\d.]+)", w.get("d", ""))) for w in whiskers
    ]
    assert [end[0] for end in ends] == pytest.approx([y_axis.place(4), y_axis.place(3)], abs=0.2)
    assert [end[-1] for end in ends] == pytest.approx([y_axis.place(2), y_axis.place(1)], abs=0.2)


def test_an_interval_is_drawn_where_it_is_known() -> None:
    low, high = np.array([np.nan, 1.0]), np.array([np.nan, 3.0])
    picture = chart(
        Line(Name("LSTM"), "held-out", np.array([1.0, 2.0]), np.array([3.0, 2.0]), True, low, high)
    )
    (whisker,) = of_class(picture, "whisker")
    assert across(whisker)[1] == pytest.approx(Axis(picture).place(2), abs=0.2)


def test_a_spike_beyond_the_axis_is_no_coordinate() -> None:
    picture = chart(line(3, 1e30, 1))
    furthest = max(abs(place) for part in picture.iter("path") for place in numbers(part))
    assert furthest < 5 * max(box(picture))


@given(
    places=st.lists(st.floats(0, 300), min_size=1, max_size=6),
    height=st.floats(10, 40),
)
def test_labels_never_overlap_and_keep_their_order(places: list[float], height: float) -> None:
    centres = spread(places, height, low=0, high=300)
    ordered = [centre for _, centre in sorted(zip(places, centres, strict=True))]
    assert all(after - before >= height - 1e-6 for before, after in itertools.pairwise(ordered))
    if height * len(places) <= 300:
        assert min(centres) >= height / 2 - 1e-6 and max(centres) <= 300 - height / 2 + 1e-6


def test_labels_that_have_room_stay_where_they_are() -> None:
    assert spread([50.0, 200.0, 120.0], 30.0, low=0, high=300) == [50.0, 200.0, 120.0]


def test_long_names_keep_both_ends() -> None:
    start, end = clipped("a-rather-long-name-1", 9).split("\u2026")
    assert start and "a-rather-long-name-1".startswith(start)
    assert len(end) > 2 and "a-rather-long-name-1".endswith(end)
    assert len(start) + 1 + len(end) == 9
    assert clipped("short", 9) == "short"


def test_planned_and_measured_are_a_ring_and_a_disc_joined_on_an_axis_from_zero() -> None:
    figure = track_figure("a", "Memory", [Name("LSTM", 1)], [412.0], Unit("MiB"), planned=[400.0])
    picture, note = parsed(figure), "400 \u2192 412, ratio 1.03"
    assert {"MiB", "0", "LSTM", note} <= set(texts(picture))
    assert figure is not None and "Open circle: planned; filled: measured." in figure.caption
    (ring,), (disc,), (gap,) = (of_class(picture, look) for look in ("ring", "disc", "gap"))
    assert all("s2" in mark.get("class", "") for mark in (ring, disc, gap))
    places = [across(ring)[0] + 7.5, across(disc)[0]]
    assert across(gap) == pytest.approx(places, abs=0.11)
    axis = Axis(picture)
    assert axis.values[0] == 0
    assert places == pytest.approx([axis.place(400), axis.place(412)], abs=0.2)
    left, right, _, _ = box(picture)
    assert left < min(places) and max(places) < right


def test_a_plan_without_a_measurement_is_a_ring_alone() -> None:
    picture = parsed(track_figure("a", "Memory", [Name("LSTM", 1)], [None], Unit("MiB"), planned=[400.0]))
    assert [mark.get("class") for mark in of_class(picture, "s2")] == ["track s2", "ring s2"]
    assert any("not measured yet" in text for text in texts(picture)) and not of_class(picture, "gap")


def test_an_interval_is_drawn_as_whiskers_and_a_reference_as_a_dashed_line() -> None:
    values, references = [Measured(0.5, (0.4, 0.8)), 0.2], [("target", 0.6)]
    names = [Name("LSTM", 0), Name("BERT", 1)]
    figure = track_figure("a", "Right", names, values, PERCENT, references=references)
    picture = parsed(figure)
    assert "50.0 (40.0 to 80.0)" in texts(picture) and "20.0" in texts(picture)
    (whisker,), (dashed,) = of_class(picture, "whisker"), of_class(picture, "reference")
    axis, places = Axis(picture), across(whisker)
    assert [min(places), max(places)] == pytest.approx([axis.place(40), axis.place(80)], abs=0.2)
    assert across(dashed) == pytest.approx([axis.place(60)], abs=0.2)
    assert figure is not None and "target 60.0" in figure.caption
    left, right, _, _ = box(picture)
    assert left < min(places) and max(places) < right
