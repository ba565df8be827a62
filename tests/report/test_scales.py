"""Axes mark round values, and a condensed curve hides nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.report.scales import Scale, condense, linear, logarithmic, tick_text

SIZES = st.floats(1e-6, 1e12)


@given(low=st.floats(-1e9, 1e9), width=SIZES, most=st.integers(2, 8))
def test_linear_ticks_are_few_round_and_inside(low: float, width: float, most: int) -> None:
    if low + width <= low + 1e-9 * abs(low):
        return
    scale = Scale(low, low + width)
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most
    assert all(-1e-6 <= scale.fraction(tick) <= 1 + 1e-6 for tick in ticks) or len(ticks) == 1
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert (
            min(abs(mantissa - round_one) for round_one in (1, 2, 2.5, 5, 10)) < 1e-3 + 1e-6 * abs(low) / step
        )


@given(low=st.floats(1e-6, 1e6), times=st.floats(1.1, 1e9), most=st.integers(3, 8))
def test_logarithmic_ticks_are_few_and_inside(low: float, times: float, most: int) -> None:
    scale = Scale(low, low * times, logarithmic=True)
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most
    assert all(-1e-6 <= scale.fraction(tick) <= 1 + 1e-6 for tick in ticks) or len(ticks) == 1


def test_logarithmic_ticks_are_one_two_five_where_there_is_room() -> None:
    assert Scale(0.9, 120, logarithmic=True).ticks(8) == [1, 2, 5, 10, 20, 50, 100]
    assert Scale(0.9, 120, logarithmic=True).ticks(5) == pytest.approx([1, 3, 10, 30, 100])
    assert Scale(1, 1e9, logarithmic=True).ticks(5) == [1, 100, 1e4, 1e6, 1e8]


def test_places_on_both_axes() -> None:
    assert Scale(0, 10).fraction(2.5) == 0.25
    assert Scale(1, 100, logarithmic=True).fraction(10) == pytest.approx(0.5)
    values = np.array([1.0, 10.0, 100.0])
    assert Scale(1, 100, logarithmic=True).fractions(values) == pytest.approx([0, 0.5, 1])
    assert Scale(0, 200).fractions(values) == pytest.approx([0.005, 0.05, 0.5])


def test_axes_around_values() -> None:
    around = linear([2.0, 4.0])
    assert 0 < 2.0 - around.low < 0.5 and around.high - 4.0 == pytest.approx(2.0 - around.low)
    assert not around.logarithmic
    zero = linear([2.0, 4.0], from_zero=True)
    assert zero.low == 0 and 4.0 < zero.high < 5.0
    assert linear([3.0]).low < 3 < linear([3.0]).high and linear([0.0]).low < 0 < linear([0.0]).high
    empty = linear([], from_zero=True)
    assert empty.low == 0 < empty.high
    assert logarithmic([5.0, 50.0]) == Scale(5.0, 50.0, logarithmic=True)
    alone = logarithmic([5.0])
    assert alone.low <= 5.0 < alone.high and alone.logarithmic


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0, 0.5, 1.0], ["0.0", "0.5", "1.0"]),
        ([2.0, 2.25, 2.5], ["2.00", "2.25", "2.50"]),
        ([0, 1000, 2000], ["0", "1,000", "2,000"]),
        ([0.01, 0.03, 0.1, 1, 10], ["0.01", "0.03", "0.1", "1", "10"]),
        ([7.0], ["7"]),
    ],
)
def test_texts_of_ticks(ticks: list[float], texts: list[str]) -> None:
    assert [tick_text(tick, ticks) for tick in ticks] == texts


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400),
    most=st.integers(1, 60),
    log=st.booleans(),
)
def test_condensing_keeps_extremes_and_the_mean(values: list[float], most: int, log: bool) -> None:
    x, y = np.arange(1.0, len(values) + 1), np.array(values)
    scale = (logarithmic if log else linear)([1.0, float(len(values))])
    curve = condense(x, y, scale=scale, most=most)
    assert len(curve.x) <= max(most, 1) or len(curve.x) == len(x) <= most
    assert curve.least.min() == y.min() and curve.largest.max() == y.max()
    assert (curve.least <= curve.mean + 1e-6).all() and (curve.mean <= curve.largest + 1e-6).all()
    assert (np.diff(curve.x) > 0).all()


def test_condensing_takes_the_mean_of_each_stretch() -> None:
    x, y = np.arange(0.0, 8.0), np.array([1.0, 3.0, 5.0, 7.0, 0.0, 4.0, 4.0, 0.0])
    curve = condense(x, y, scale=Scale(0.0, 8.0), most=2)
    assert curve.mean.tolist() == [4.0, 2.0] and curve.x.tolist() == [1.5, 5.5]
    assert curve.least.tolist() == [1.0, 0.0] and curve.largest.tolist() == [7.0, 4.0]


def test_a_short_curve_stays_as_it_is() -> None:
    x = np.arange(5.0)
    curve = condense(x, x, scale=Scale(0.0, 4.0), most=5)
    assert curve.mean is curve.least is curve.largest is x
