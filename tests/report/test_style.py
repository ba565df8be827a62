"""The colours can be read: contrast by WCAG 2.2, in light and in dark."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import seedbed.report.page
from seedbed.report.page import NUM_SERIES, Name

STYLE = Path(seedbed.report.page.__file__).with_name("style.css").read_text(encoding="utf-8")
WORDS = ("text", "muted", "accent", "good", "warning", "bad")


def palette(block: str) -> dict[str, str]:
    """The colours that a block of the style sheet declares."""
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


LIGHT_BLOCK, REST = STYLE.split("@media screen and (prefers-color-scheme: dark)")
DARK_BLOCK, RULES = REST.split("* { box-sizing", 1)
LIGHT, DARK = palette(LIGHT_BLOCK), palette(DARK_BLOCK)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours `#rrggbb`, 1 to 21 (WCAG 2.2, relative luminance)."""
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


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


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["background", "surface"])
def test_text_has_four_and_a_half_and_lines_have_three(colours: Mapping[str, str], ground: str) -> None:
    for name in WORDS:
        assert contrast(colours[name], colours[ground]) >= 4.5, name
    for index in range(NUM_SERIES):
        assert contrast(colours[f"series-{index + 1}"], colours[ground]) >= 3, index


def test_both_palettes_name_the_same_colours() -> None:
    assert len(LIGHT) == 9 + NUM_SERIES and LIGHT.keys() == DARK.keys()


def test_every_series_has_a_class_with_its_colour_and_the_seventh_is_muted() -> None:
    assert [Name("a", index).colour for index in (0, 5, 6, None)] == ["s1", "s6", "s0", "s0"]
    classes = dict(re.findall(r"\.(s\d) \{ color: var\(--([\w-]+)\); \}", RULES))
    assert classes == {"s0": "muted"} | {f"s{index}": f"series-{index}" for index in range(1, NUM_SERIES + 1)}


def test_the_rules_have_no_colour_of_their_own() -> None:
    assert not re.search(r"#[0-9a-f]{3,8}\b", RULES)
    assert set(re.findall(r"var\(--([\w-]+)\)", STYLE)) == set(LIGHT)


def test_paper_is_light_and_the_dark_palette_is_for_screens() -> None:
    assert LIGHT["background"] == "#ffffff" and "@page { size: A4;" in RULES
    assert STYLE.count("prefers-color-scheme") == 1


def test_letters_of_a_picture_are_as_large_on_a_phone_as_beside_the_text() -> None:
    """A picture is 360 units wide: 464 px on a wide page, 348 px on a phone of 380 px."""
    wide, narrow = RULES.split("@media (max-width: 480px)")
    for selector in ("svg text", "svg .tick"):
        size = re.compile(re.escape(selector) + r" \{[^}]*font-size: (\d+)px")
        (large,), (small, *_) = size.findall(wide), size.findall(narrow)
        assert int(large) * 464 / 360 >= 12 and int(small) * 348 / 360 >= 11.5


def test_a_table_that_is_wider_than_a_phone_shows_that_it_scrolls() -> None:
    """The covers move with the table, the shadows stay at the edges; the box has the focus and a name."""
    (rule,) = re.findall(r"\n\.scroll \{(.*?)\}", RULES, re.DOTALL)
    assert "overflow-x: auto" in rule and "background-attachment: local, local, scroll, scroll" in rule
    assert rule.count("var(--background) 40%, transparent") == rule.count("var(--muted) 50%") == 2
    assert ".scroll { overflow: visible; background: none; }" in RULES.split("@media print")[1]
    template = Path(seedbed.report.page.__file__).with_name("page.html").read_text(encoding="utf-8")
    assert '<div class="scroll" tabindex="0" role="region" aria-label="' in template
