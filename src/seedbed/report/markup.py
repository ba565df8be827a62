"""HTML and SVG from calls: every string that is not markup already is escaped where it is put in."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# What a page cannot show: control characters other than tab and line feed, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_VOID = frozenset({"meta", "br", "link"})


class Markup(str):
    """Text that is markup; only `element`, `join` and this file's `raw` make it."""

    __slots__ = ()


Child = Markup | str | int | float | None
Attribute = str | int | float | None


def printable(text: str) -> str:
    """One kind of line end, and U+FFFD for every character that no page can show."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def escape(text: object) -> Markup:
    """Turn any value into text that a page shows as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(printable(str(text))))


def raw(text: str) -> Markup:
    """Declare text to be markup: for our own style sheet, and for what a renderer has escaped."""
    return Markup(text)


def join(children: Iterable[Child], separator: str = "") -> Markup:
    """Put children in a row, escaping those that are not markup and leaving out None."""
    return Markup(escape(separator).join(escape(child) for child in children if child is not None))


def element(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """Make an element; `class_` becomes `class`, `aria_label` becomes `aria-label`, None leaves one out.

    Floats are coordinates and are written `compact`.
    """
    written = ""
    for name, value in attributes.items():
        if value is not None:
            text = escape(compact(value) if isinstance(value, float) else value)
            written += f' {name.rstrip("_").replace("_", "-")}="{text}"'
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def compact(value: float) -> str:
    """Write a coordinate with one decimal, or none where it is zero: a tenth of a pixel is enough."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
