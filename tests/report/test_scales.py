"""Axes mark round values, and places are between their ends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.report.scales import Scale, scale_around

SIZES = st.floats(1e-6, 1e12)


def share(scale: Scale, value: float) -> float:
    """The place of a value, 0 to 1, or beyond where the value is."""
    if scale.logarithmic:
        return math.log(value / scale.low) / math.log(scale.high / scale.low)
    return (value - scale.low) / (scale.high - scale.low)


@given(low=st.floats(-1e9, 1e9), width=SIZES, most=st.integers(2, 8))
def test_linear_ticks_are_few_round_and_inside(low: float, width: float, most: int) -> None:
    if low + width <= low + 1e-9 * abs(low):
        return
    scale = Scale(low, low + width)
    ticks = [value for value, _ in scale.ticks(most)]
    assert 1 <= len(ticks) <= most
    assert all(-1e-6 <= share(scale, tick) <= 1 + 1e-6 for tick in ticks) or len(ticks) == 1
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert (
            min(abs(mantissa - round_one) for round_one in (1, 2, 2.5, 5, 10)) < 1e-3 + 1e-6 * abs(low) / step
        )


@given(low=st.floats(1e-6, 1e6), times=st.floats(1.1, 1e9), most=st.integers(3, 8))
def test_logarithmic_ticks_are_few_and_inside(low: float, times: float, most: int) -> None:
    scale = Scale(low, low * times, logarithmic=True)
    ticks = [value for value, _ in scale.ticks(most)]
    assert 1 <= len(ticks) <= most
    assert all(-1e-6 <= share(scale, tick) <= 1 + 1e-6 for tick in ticks) or len(ticks) == 1


def test_logarithmic_ticks_are_one_two_five_where_there_is_room() -> None:
    def ticks(low: float, high: float, most: int) -> list[float]:
        return [value for value, _ in Scale(low, high, logarithmic=True).ticks(most)]

    assert ticks(0.9, 120, 8) == [1, 2, 5, 10, 20, 50, 100]
    assert ticks(0.9, 120, 5) == pytest.approx([1, 3, 10, 30, 100])
    assert ticks(1, 1e9, 5) == [1, 100, 1e4, 1e6, 1e8]


def test_places_on_both_axes() -> None:
    assert Scale(0, 10).place(2.5) == 0.25 and Scale(0, 10, 40.0, 20.0).place(2.5) == 35.0
    assert Scale(1, 100, logarithmic=True).place(10) == pytest.approx(0.5)
    values = np.array([1.0, 10.0, 100.0])
    assert Scale(1, 100, logarithmic=True).places(values) == pytest.approx([0, 0.5, 1])
    assert Scale(0, 200).places(values) == pytest.approx([0.005, 0.05, 0.5])


def test_what_is_beyond_an_end_is_at_the_end() -> None:
    assert Scale(0, 4).places(np.array([-1.0, 1e30])).tolist() == [0, 1]
    assert Scale(1, 100, logarithmic=True).places(np.array([-1.0, 0.0, 1e30])).tolist() == [0, 0, 1]


def test_axes_around_values() -> None:
    around = scale_around([2.0, 4.0])
    assert 0 < 2.0 - around.low < 0.5 and around.high - 4.0 == pytest.approx(2.0 - around.low)
    assert not around.logarithmic
    zero = scale_around([2.0, 4.0], from_zero=True)
    assert zero.low == 0 and 4.0 < zero.high < 5.0
    assert scale_around([3.0]).low < 3 < scale_around([3.0]).high
    assert scale_around([0.0]).low < 0 < scale_around([0.0]).high
    empty = scale_around([0.0], from_zero=True)
    assert empty.low == 0 < empty.high
    ends = scale_around([5.0, 50.0], 10.0, 20.0, logarithmic=True, from_zero=True)
    assert ends == Scale(5.0, 50.0, 10.0, 20.0, logarithmic=True)
    alone = scale_around([5.0], logarithmic=True)
    assert alone.low <= 5.0 < alone.high and alone.logarithmic


@pytest.mark.parametrize(
    ("scale", "texts"),
    [
        (Scale(0, 1.2), ["0.0", "0.5", "1.0"]),
        (Scale(2, 2.6), ["2.00", "2.25", "2.50"]),
        (Scale(0, 2500), ["0", "1,000", "2,000"]),
        (Scale(0.01, 10, logarithmic=True), ["0.01", "0.1", "1", "10"]),
        (Scale(0, 0.7), ["0.00", "0.25", "0.50"]),
    ],
)
def test_texts_of_ticks(scale: Scale, texts: list[str]) -> None:
    assert [text for _, text in scale.ticks(len(texts))] == texts
