"""The layout of output: at most 100 columns, readable at 60; results on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

MAX_COLUMNS = 100


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr of at most MAX_COLUMNS."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    made.width = min(made.width, MAX_COLUMNS)
    return made


def print_json(value: Any) -> None:
    """Print one JSON object; a number that is not finite becomes null, since JSON has none."""
    plain = from_json(to_json(value, inf_nan_mode="null", fallback=str))
    print(json.dumps(plain, ensure_ascii=False))


def print_facts(title: str, facts: Mapping[str, str | None], *, stderr: bool = False) -> None:
    """Print a heading and labelled lines, without those that are None."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in facts.items():
        if text is not None:
            table.add_row(f"  {label}", escape(text))
    _print_titled(title, table, stderr=stderr)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()
) -> None:
    """Print a table; `numbers` are the indices of the right-aligned columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _print_titled(title, table)


def _print_titled(title: str, table: Table, *, stderr: bool = False) -> None:
    out = console(stderr=stderr)
    if title:
        out.print(Text(title, style="bold"))
    out.print(table)


def say(text: str) -> None:
    """Print a message on stderr; in a pipe it is one line, however long."""
    out = console(stderr=True)
    out.print(Text(text, style="dim"), soft_wrap=not out.is_terminal)
