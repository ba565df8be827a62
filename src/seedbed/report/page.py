"""A page as data - headings that say the finding, pictures, tables, texts - and its one template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import minijinja
from markdown_it import MarkdownIt

from seedbed import __version__
from seedbed.report.markup import Markup, printable, series_class
from seedbed.report.units import Amount, Unit, measured

Mood = Literal["good", "warning", "bad", "plain"]
MOST_CARD_LETTERS = 20_000
# What could point outside the page stays as the text that it is written in.
_OFF = ["image", "link", "autolink", "reference", "html_block", "html_inline"]


@dataclass(frozen=True)
class Name:
    """A network's name, beside the colour of its series in the pictures."""

    text: str
    series: int | None = None

    @property
    def colour(self) -> str:
        """The CSS class of its colour."""
        return series_class(self.series)


@dataclass(frozen=True)
class Value:
    """A figure of a table, with half of its interval; the best of its column is bold."""

    text: str
    spread: str = ""
    is_best: bool = False


Cell = str | Name | Value


@dataclass(frozen=True)
class Table:
    """A table that scrolls sideways in its own box; the columns from `numeric_from` on are right-aligned."""

    label: str
    header: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    numeric_from: int = 1

    def plain(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows as text for a terminal; the best of a column has a star."""
        header, *rows = [[_plain(cell) for cell in row] for row in (self.header, *self.rows)]
        return header, rows


def _plain(cell: Cell) -> str:
    text = cell if isinstance(cell, str) else cell.text
    return text.replace("\n", " ") + (
        cell.spread.strip() + "*" * cell.is_best if isinstance(cell, Value) else ""
    )


@dataclass(frozen=True)
class Column:
    """A column of results in one unit; `best` says whether the lowest or the highest value is bold."""

    header: Cell
    values: Sequence[Amount]
    unit: Unit
    best: Literal["", "low", "high"] = ""

    def cells(self) -> list[Cell]:
        """The figures with their intervals; nothing is bold where all are the same."""
        found = [measured(value) for value in self.values]
        known = [one.value for one in found if one]
        best = self.unit.text(min(known) if self.best == "low" else max(known)) if known else ""
        bold = bool(self.best) and len(set(map(self.unit.text, known))) > 1
        return [
            self._cell(one.value, one.interval, bold, best) if one else self.unit.text(None) for one in found
        ]

    def _cell(self, value: float, interval: tuple[float, float] | None, bold: bool, best: str) -> Value:
        text = self.unit.text(value)
        spread = f" \u00b1{self.unit.text((interval[1] - interval[0]) / 2)}" if interval else ""
        return Value(text, spread, bold and text == best)


def results_table(label: str, first: str, names: Sequence[Cell], columns: Sequence[Column]) -> Table:
    """A row for each name and a column for each quantity, its unit in the second line of the header."""
    header = [
        c.header if isinstance(c.header, Name) else f"{c.header}\n{c.unit.name}".strip() for c in columns
    ]
    rows = zip(names, *(column.cells() for column in columns), strict=True)
    return Table(label, [first, *header], [list(row) for row in rows])


@dataclass(frozen=True)
class Figure:
    """A picture over the caption that says how it was measured."""

    picture: Markup
    caption: str


@dataclass(frozen=True)
class Figures:
    """Pictures side by side where there is room for two; None is left out."""

    figures: Sequence[Figure | None]


@dataclass(frozen=True)
class Text:
    """A paragraph, or with another `look` a quoted prompt, lines to copy, or a model card.

    `source` is a file and the command that reads it.
    """

    text: str
    look: Literal["", "muted", "prompt", "code", "card"] = ""
    source: tuple[str, str] | None = None


@dataclass(frozen=True)
class Span:
    """A part of a text that looks alike; `look` is a CSS class."""

    text: str
    look: str = ""
    is_target: bool = False


@dataclass(frozen=True)
class Sample:
    """A text of a network or for it: its title, its rows - a name or nothing, and its spans - and a note."""

    title: Cell
    rows: Sequence[tuple[str, Sequence[Span]]]
    note: str = ""


@dataclass(frozen=True)
class Samples:
    """Texts under a heading, side by side where there is room or one below the other."""

    heading: Sequence[Cell]
    samples: Sequence[Sample]
    stacked: bool = False


@dataclass(frozen=True)
class Details:
    """Blocks that unfold; on paper they always are."""

    summary: Cell
    blocks: Sequence[Block]
    unfolded: bool = False


Block = Table | Figures | Text | Samples | Details


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading that says its finding; `name` is unique on the page."""

    name: str
    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Answer:
    """The answer to one of the questions of the first screen."""

    question: str
    verdict: str
    mood: Mood
    lines: Sequence[str]


@dataclass(frozen=True)
class Page:
    """A whole page: the finding, what a reader needs first, the sections, and the terms that it uses."""

    subject: str
    title: str
    sections: Sequence[Section | None]
    circumstances: str = ""
    answers: Sequence[Answer] = ()
    notices: Sequence[str] = ()
    first: Sequence[Block] = ()
    terms: Sequence[tuple[str, str]] = ()

    def html(self) -> str:
        """The HTML document: no script, nothing fetched. Every value is escaped; an undefined one raises."""
        files = (Path(__file__).with_name(name) for name in ("page.html", "style.css"))
        template, style = (file.read_text(encoding="utf-8") for file in files)
        environment = minijinja.Environment(
            templates={"page.html": template},
            undefined_behavior="strict",
            finalizer=lambda value: printable(value) if type(value) is str else NotImplemented,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.render_template("page.html", page=self, style=Markup(style), version=__version__)


def card(markdown: str) -> list[Block]:
    """A model card: its metadata as written, and its text, in which nothing can load, link or run.

    Headings begin at the third level, below the page's own.
    """
    text = printable(markdown[:MOST_CARD_LETTERS])
    metadata, dashes, body = text[4:].partition("\n---\n")
    if not text.startswith("---\n") or not dashes:
        metadata, body = "", text
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable("table").disable(_OFF)
    tokens = parser.parse(body)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    blocks: list[Block] = [Text(metadata, "code")] if metadata else []
    blocks.append(Text(Markup(parser.renderer.render(tokens, parser.options, {})), "card"))
    cut = f"The card is longer; its first {MOST_CARD_LETTERS:,} letters are shown."
    return [*blocks, Text(cut, "muted")] if len(markdown) > MOST_CARD_LETTERS else blocks
