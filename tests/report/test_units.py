"""Values with intervals, and the units of axes and columns."""

import math

import pytest

from seedbed.report.units import (
    PERCENT,
    Measured,
    Unit,
    bytes_unit,
    count_unit,
    measured,
    number,
    seconds_unit,
)


@pytest.mark.parametrize("value", [True, None, "3", [1], math.nan, math.inf, 10**400, {}])
def test_what_is_no_number(value: object) -> None:
    assert number(value) is None


def test_what_is_a_number() -> None:
    assert number(3) == 3.0 and number(-2.5) == -2.5
    assert number(1e100) == 1e100 and number(5e-324) == 0.0
    assert number(1.7e308) is None and number(-(10**400)) is None


def test_values_with_intervals_from_a_file() -> None:
    assert Measured.read({"value": 0.5, "interval": [0.4, 0.6]}) == Measured(0.5, (0.4, 0.6))
    for interval in (None, [1], "ab", [0.1, None], {}):
        assert Measured.read({"value": 0.5, "interval": interval}) == Measured(0.5)
    assert Measured.read({"value": None}) is Measured.read([0.5]) is Measured.read(None) is None
    assert measured(0.5) == Measured(0.5) and measured(Measured(1.0)) == Measured(1.0)
    assert measured(None) is None and measured(0.0) == Measured(0.0)


def test_units_of_columns() -> None:
    assert bytes_unit([5 * 2**30, None]).name == "GiB" and bytes_unit([400 * 2**20]) == Unit("MiB", 2**20)
    assert [seconds_unit([value]).name for value in (5, 700, 20_000)] == ["seconds", "minutes", "hours"]
    names = [count_unit([1, value], "tokens").name for value in (50, 50_000, 5e6, 5e9)]
    assert names == ["tokens", "thousand tokens", "million tokens", "billion tokens"]
    assert count_unit([None], "tokens").name == "tokens" and count_unit([], "tokens").name == "tokens"
    assert Unit("seconds", 1, 1).text(None) == "\u2013" and Unit("minutes", 60, 1).text(90) == "1.5"
    assert PERCENT.text(0.812) == "81.2"
