"""The colours can be read: contrast by WCAG 2.2, in light and in dark."""

import re
from collections.abc import Mapping

import pytest

from seedbed.report.page import style_sheet
from seedbed.report.palette import DARK, LIGHT, NUM_SERIES, colour, contrast, declarations, series_colour

WORDS = ("text", "muted", "accent", "good", "warning", "bad")


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [
        ("#000000", "#ffffff", 21.0),
        ("#777777", "#ffffff", 4.478),
        ("#0000ff", "#ffffff", 8.592),
        ("#123456", "#123456", 1),
    ],
)
def test_contrast_of_known_pairs(first: str, second: str, ratio: float) -> None:
    assert contrast(first, second) == pytest.approx(ratio, abs=0.001)
    assert contrast(second, first) == contrast(first, second)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["background", "surface"])
def test_text_has_four_and_a_half_and_lines_have_three(palette: Mapping[str, str], ground: str) -> None:
    for name in WORDS:
        assert contrast(palette[name], palette[ground]) >= 4.5, name
    for index in range(NUM_SERIES):
        assert contrast(palette[f"series-{index + 1}"], palette[ground]) >= 3, index


def test_both_palettes_name_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()


def test_a_run_beyond_the_sixth_is_muted() -> None:
    assert [series_colour(index) for index in (0, 5, 6, None)] == [
        "var(--series-1)",
        "var(--series-6)",
        "var(--muted)",
        "var(--muted)",
    ]
    assert declarations({"text": "#17201b"}) == "--text: #17201b;" and colour("text") == "var(--text)"


def test_the_style_has_no_colour_of_its_own_and_no_words_in_a_series_colour() -> None:
    style = style_sheet()
    colours = set(re.findall(r"#[0-9a-f]{3,8}\b", style))
    assert colours == set(LIGHT.values()) | set(DARK.values())
    assert "var(--series" not in style
    used = set(re.findall(r"var\(--([\w-]+)\)", style))
    assert used <= set(LIGHT)


def test_paper_is_light_and_the_dark_palette_is_for_screens() -> None:
    style = style_sheet()
    assert f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {declarations(DARK)} }} }}" in style
    assert "@page { size: A4;" in style
