"""Numbers as people read them."""

import math

import pytest

from seedbed.report.units import (
    PERCENT,
    Measured,
    Unit,
    away_text,
    bytes_text,
    bytes_unit,
    count_text,
    count_unit,
    figures,
    measured,
    number,
    seconds_text,
    seconds_unit,
)


def plain(text: str) -> str:
    """The text with ordinary spaces: between a number and its unit stands one that no line ends at."""
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize("value", [True, None, "3", [1], math.nan, math.inf, 10**400, {}])
def test_what_is_no_number(value: object) -> None:
    assert number(value) is None


def test_what_is_a_number() -> None:
    assert number(3) == 3.0 and number(-2.5) == -2.5
    assert number(1e100) == 1e100 and number(5e-324) == 0.0
    assert number(1.7e308) is None and number(-(10**400)) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1,230"),
        (9.996, "10.0"),
        (0.01234, "0.0123"),
        (99.95, "100"),
        (-4.5678, "-4.57"),
        (1e-07, "1.00e-07"),
        (2.5e17, "2.50e+17"),
        (999.6, "1,000"),
    ],
)
def test_figures(value: float, text: str) -> None:
    assert figures(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234, "1,234"), (999_999, "1.00 million"), (1_234_567, "1.23 million"), (7e9, "7.00 billion")],
)
def test_counts(value: float, text: str) -> None:
    assert plain(count_text(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (500, "500 bytes"),
        (2048, "2.00 KiB"),
        (412 * 2**20, "412 MiB"),
        (2**30 - 1, "1.00 GiB"),
        (0, "0 bytes"),
    ],
)
def test_bytes(value: float, text: str) -> None:
    assert plain(bytes_text(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42, "0.42 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (11220, "3 h 07 min"),
        (0, "0 s"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert plain(seconds_text(value)) == text


def test_no_line_ends_between_a_number_and_its_unit() -> None:
    texts = [
        seconds_text(125),
        seconds_text(5),
        seconds_text(20),
        seconds_text(7200),
        bytes_text(3),
        bytes_text(2**20),
    ]
    assert not any(" " in text for text in [*texts, count_text(2e6)])


def test_values_with_intervals_from_a_file() -> None:
    assert Measured.read({"value": 0.5, "interval": [0.4, 0.6]}) == Measured(0.5, (0.4, 0.6))
    for interval in (None, [1], "ab", [0.1, None], {}):
        assert Measured.read({"value": 0.5, "interval": interval}) == Measured(0.5)
    assert Measured.read({"value": None}) is Measured.read([0.5]) is Measured.read(None) is None
    assert measured(0.5) == Measured(0.5) and measured(Measured(1.0)) == Measured(1.0)
    assert measured(None) is None and measured(0.0) == Measured(0.0)


def test_distance_from_a_plan() -> None:
    assert [away_text(ratio) for ratio in (1.04, 0.92, 1.004)] == [
        "4% above plan",
        "8% below plan",
        "as planned",
    ]


def test_units_of_columns() -> None:
    assert bytes_unit([5 * 2**30, None]).name == "GiB" and bytes_unit([400 * 2**20]) == Unit("MiB", 2**20)
    assert [seconds_unit([value]).name for value in (5, 700, 20_000)] == ["seconds", "minutes", "hours"]
    names = [count_unit([1, value], "tokens").name for value in (50, 50_000, 5e6, 5e9)]
    assert names == ["tokens", "thousand tokens", "million tokens", "billion tokens"]
    assert count_unit([None], "tokens").name == "tokens" and count_unit([], "tokens").name == "tokens"
    assert Unit("seconds", 1, 1).text(None) == "\u2013" and Unit("minutes", 60, 1).text(90) == "1.5"
    assert PERCENT.text(0.812) == "81.2"
