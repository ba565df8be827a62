"""One self-contained HTML page and the pieces that it is built of: no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seedbed.report.markup import Child, Markup, element, escape, join, raw
from seedbed.report.palette import DARK, LIGHT, declarations, series_colour

# Even a page that someone else's model card is on can load and run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(title: str, *body: Child) -> str:
    """A whole HTML document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", raw(style_sheet())),
    )
    document = element("html", head, element("body", element("main", *body)), lang="en")
    return f"<!DOCTYPE html>\n{document}\n"


def style_sheet() -> str:
    """The page's style: the palette for light, for dark on a screen, and the rules. Paper is always light."""
    rules = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    dark = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {declarations(DARK)} }} }}"
    return f":root {{ color-scheme: light dark; {declarations(LIGHT)} }}\n{dark}\n{rules}"


def section(name: str, heading: str, *children: Child) -> Markup:
    """A part of the page under a heading that says its finding."""
    return element("section", element("h2", heading), *children, id=name)


def paragraph(*children: Child, class_: str | None = None) -> Markup:
    """A paragraph of text."""
    return element("p", *children, class_=class_)


def figure(picture: Child, caption: Child) -> Markup:
    """A picture over the caption that says how it was measured."""
    return element("figure", picture, element("figcaption", caption))


def panels(*figures: Child) -> Markup:
    """Figures side by side where there is room for two."""
    return element("div", *figures, class_="panels")


def table(
    header: Sequence[Child], rows: Sequence[Sequence[Child]], *, label: str, numeric_from: int = 1
) -> Markup:
    """A table in a box that scrolls sideways; the columns from `numeric_from` on are right-aligned."""

    def cells(tag: str, row: Sequence[Child]) -> list[Markup]:
        marks = ["number" if index >= numeric_from else None for index in range(len(row))]
        scopes = ["col" if tag == "th" else None for _ in row]
        return [
            element(tag, cell, class_=mark, scope=scope)
            for cell, mark, scope in zip(row, marks, scopes, strict=True)
        ]

    head = element("thead", element("tr", *cells("th", header)))
    lines = [element("tr", element("th", row[0], scope="row"), *cells("td", row)[1:]) for row in rows]
    # A box that scrolls must be reachable without a mouse.
    box = {"class_": "scroll", "tabindex": "0", "role": "region", "aria_label": label}
    return element("div", element("table", head, element("tbody", *lines)), **box)


def details(summary: Child, *children: Child, unfolded: bool = False) -> Markup:
    """A part that unfolds; on paper it always is."""
    return element("details", element("summary", summary), *children, open="" if unfolded else None)


def commands(lines: Sequence[str]) -> Markup:
    """Commands to copy, one a line."""
    return element("pre", element("code", "\n".join(lines)), tabindex="0", class_="commands")


def swatch(series: int | None, name: str) -> Markup:
    """A run's name behind the line of its colour."""
    stroke = element("path", d="M0 5h14", stroke=series_colour(series), stroke_width=3)
    line = element("svg", stroke, viewBox="0 0 14 10", class_="swatch", aria_hidden="true")
    return join([line, escape(name)])


def inline_code(text: str) -> Markup:
    """A file's name, a flag or a key inside a sentence."""
    return element("code", text)
