"""SVG elements as text that a page's template writes unchanged; every other value is escaped."""

from __future__ import annotations

import html
import re

# What a page cannot show: control characters other than tab and line feed, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
NUM_SERIES = 6  # more series than this share the muted colour; pictures draw the best six


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return the markup itself: minijinja escapes only what lacks this method."""
        return str(self)


def printable(text: str) -> str:
    """One kind of line end, and U+FFFD for every character that no page can show."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def escape(text: object) -> Markup:
    """Any value as text that a page shows as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(str(text))))


def element(tag: str, *children: object, **attributes: str | float | None) -> Markup:
    """Make an element; `class_` becomes `class`, `aria_label` becomes `aria-label`, None is left out.

    Floats are coordinates and are written `compact`.
    """
    written = ""
    for name, value in attributes.items():
        if value is not None:
            text = escape(compact(value) if isinstance(value, float) else value)
            written += f' {name.rstrip("_").replace("_", "-")}="{text}"'
    return Markup(
        f"<{tag}{written}>{''.join(escape(child) for child in children if child is not None)}</{tag}>"
    )


def compact(value: float) -> str:
    """Write a coordinate with one decimal, or none where it is zero: a tenth of a pixel is enough."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def series_class(index: int | None) -> str:
    """The CSS class of a series' colour, counted from 0; the muted one beyond the sixth and for None."""
    return "s0" if index is None or index >= NUM_SERIES else f"s{index + 1}"
