"""A model card as HTML: Markdown in which nothing can load, link or run."""

from __future__ import annotations

from markdown_it import MarkdownIt

from seedbed.report.markup import Markup, element, join, printable, raw

MOST_LETTERS = 20_000
# What could point outside the page stays as the text that it is written in.
_OFF = ["image", "link", "autolink", "reference", "html_block", "html_inline"]


def card(text: str) -> Markup:
    """Show a model card, its metadata as written; headings begin at the third level, below the page's own."""
    shown = printable(text[:MOST_LETTERS])
    metadata, body = _front_matter(shown)
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable("table").disable(_OFF)
    tokens = parser.parse(body)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    children = [
        element("pre", element("code", metadata)) if metadata else None,
        raw(str(parser.renderer.render(tokens, parser.options, {}))),
        element("p", f"The card goes on; its first {MOST_LETTERS:,} letters are shown.", class_="muted")
        if len(text) > MOST_LETTERS
        else None,
    ]
    return element("div", join(children), class_="card")


def _front_matter(text: str) -> tuple[str, str]:
    """Split the metadata between two lines of dashes from the card's text."""
    if not text.startswith("---\n"):
        return "", text
    metadata, dashes, body = text[4:].partition("\n---\n")
    return (metadata, body) if dashes else ("", text)
