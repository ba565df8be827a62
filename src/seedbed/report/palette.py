"""The colours of every picture and page, for light and dark, and the contrast between two of them."""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "background": "#ffffff",
    "surface": "#f5f7f6",
    "line": "#d9dfdc",
    "text": "#17201b",
    "muted": "#56625c",
    "accent": "#1a7a48",
    "good": "#1a7a48",
    "warning": "#8a5a00",
    "bad": "#b3261e",
    "series-1": "#0b6bab",
    "series-2": "#c2500a",
    "series-3": "#178a68",
    "series-4": "#a8478a",
    "series-5": "#8a6d00",
    "series-6": "#5a6fd6",
}
DARK: Mapping[str, str] = {
    "background": "#121614",
    "surface": "#1b211e",
    "line": "#38423d",
    "text": "#e8efeb",
    "muted": "#a3b0a9",
    "accent": "#5fcf95",
    "good": "#5fcf95",
    "warning": "#f0b64d",
    "bad": "#ff8a80",
    "series-1": "#5aaee8",
    "series-2": "#f59153",
    "series-3": "#4fd0a5",
    "series-4": "#e08fc6",
    "series-5": "#d9b84a",
    "series-6": "#9aa8ff",
}

NUM_SERIES = 6  # more runs than this share the muted colour; pictures draw the best six


def colour(name: str) -> str:
    """The CSS value of a colour, which follows the reader's light or dark."""
    assert name in LIGHT, name
    return f"var(--{name})"


def series_colour(index: int | None) -> str:
    """The colour of a run throughout a report, counted from 0; muted beyond the sixth and for None."""
    return colour("muted" if index is None or index >= NUM_SERIES else f"series-{index + 1}")


def declarations(palette: Mapping[str, str]) -> str:
    """The palette as CSS custom properties."""
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours `#rrggbb`, 1 to 21 (WCAG 2.2, relative luminance)."""
    dark, light = sorted((_luminance(first), _luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
