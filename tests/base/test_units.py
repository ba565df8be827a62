"""Numbers as people read them."""

import pytest

from seedbed.base.units import bytes_text, count_text, figures, seconds_text


def plain(text: str) -> str:
    """The text with ordinary spaces: between a number and its unit stands one that no line ends at."""
    return text.replace("\u00a0", " ")


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
        (2 * 86400, "2.0 days"),
        (220_852_800, "7.0 years"),
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
