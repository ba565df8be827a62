"""A page as data - headings that say the finding, pictures, tables, texts - and its one template."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jinja2

from seedbed import __version__
from seedbed.report.units import Amount, Unit, measured

# What a page cannot show: control characters other than tab and line feed, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
WIDTH = 360.0  # of a picture
NUM_SERIES = 6  # pictures draw the best six networks
Mood = Literal["good", "warning", "bad", "plain"]


@dataclass(frozen=True)
class Name:
    """A network's name, beside the colour of its series in the pictures."""

    text: str
    series: int | None = None

    @property
    def colour(self) -> str:
        """The CSS class of its colour; the muted one beyond the sixth and for None."""
        return "s0" if self.series is None or self.series >= NUM_SERIES else f"s{self.series + 1}"


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
    if isinstance(cell, Value):
        return cell.text + cell.spread.strip() + "*" * cell.is_best
    return (cell if isinstance(cell, str) else cell.text).replace("\n", " ")


@dataclass(frozen=True)
class Column:
    """A column of results in one unit; `best` says whether the lowest or the highest value is bold."""

    header: str
    values: Sequence[Amount]
    unit: Unit
    best: Literal["", "low", "high"] = ""

    def cells(self) -> list[Value]:
        """The figures with their intervals; nothing is bold where all are the same."""
        known = [one.value for one in map(measured, self.values) if one]
        best = ""
        if self.best and len(set(map(self.unit.text, known))) > 1:
            best = self.unit.text(min(known) if self.best == "low" else max(known))
        cells = []
        for one in map(measured, self.values):
            text, ends = self.unit.text(one.value if one else None), one.interval if one else None
            spread = f" \u00b1{self.unit.text((ends[1] - ends[0]) / 2)}" if ends else ""
            cells.append(Value(text, spread, text == best))
        return cells


def results_table(label: str, first: str, names: Sequence[Cell], columns: Sequence[Column]) -> Table:
    """A row for each name and a column for each quantity, its unit in the second line of the header."""
    header = [f"{column.header}\n{column.unit.name}" for column in columns]
    rows = zip(names, *(column.cells() for column in columns), strict=True)
    return Table(label, [first, *header], [list(row) for row in rows])


@dataclass(frozen=True)
class Stroke:
    """A path of a picture; `look` is its CSS classes."""

    look: str
    d: str


@dataclass(frozen=True)
class Word:
    """A text in a picture."""

    look: str
    x: float
    y: float
    text: str


Mark = Stroke | Word


@dataclass(frozen=True)
class Figure:
    """A picture over the caption that says how it was measured; `name` is unique on its page.

    `title` and `description` are for a reader who does not see it.
    """

    name: str
    title: str
    description: str
    marks: Sequence[Mark]
    height: float
    caption: str


@dataclass(frozen=True)
class Figures:
    """Pictures side by side where there is room for two; None is left out."""

    figures: Sequence[Figure | None]


@dataclass(frozen=True)
class Text:
    """A paragraph, or with another `look` a quoted prompt or lines to copy.

    `source` is a file and the command that reads it.
    """

    text: str
    look: Literal["", "muted", "prompt", "code"] = ""
    source: tuple[str, str] | None = None


@dataclass(frozen=True)
class Span:
    """A part of a text that looks alike; `look` is a CSS class."""

    text: str
    look: str = ""
    is_target: bool = False


@dataclass(frozen=True)
class Sample:
    """A text of a network or for it: its title, and its rows: a name or nothing, and spans."""

    title: Cell
    rows: Sequence[tuple[str, Sequence[Span]]]


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
    """A whole page: the finding, what a reader needs first, the sections, and its words of `words.toml`."""

    subject: str
    title: str
    sections: Sequence[Section | None]
    circumstances: str = ""
    answers: Sequence[Answer] = ()
    notices: Sequence[str] = ()
    first: Sequence[Block] = ()
    terms: Sequence[str] = ()

    def html(self) -> str:
        """The HTML document: no script, nothing fetched. Every value is escaped; an undefined one raises."""
        folder = Path(__file__).parent
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=lambda value: printable(value) if type(value) is str else value,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        words = tomllib.loads((folder / "words.toml").read_text(encoding="utf-8"))
        known = {"words": words, "version": __version__, "width": WIDTH}
        return environment.get_template("page.html").render(page=self, **known)


def printable(text: str) -> str:
    """One kind of line end, and U+FFFD for every character that no page can show."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
