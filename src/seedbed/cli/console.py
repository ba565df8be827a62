"""The layout of output: at most 100 columns, readable at 60; results on stdout, progress on stderr.

Text from a file, a model or a user may contain commands to a terminal (one of them writes to the clipboard);
every line goes through `shown`, which takes them out of what a terminal gets.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from seedbed.base.errors import UsageError

MAX_COLUMNS = 100
COMMAND = "next"  # the label of a command to run
_KEPT = "\n\t\u200c\u200d"  # the last two join letters and emojis


def shown(text: str, *, stderr: bool = False) -> str:
    """The text as it is for a pipe or a file; for a terminal without control characters."""
    stream = sys.stderr if stderr else sys.stdout
    return visible(text) if stream.isatty() else text


def visible(text: str) -> str:
    """The text with U+FFFD for control characters, which could be commands; line ends and tabs stay."""
    return "".join(
        letter if letter.isprintable() or letter in _KEPT else " " if letter.isspace() else "\ufffd"
        for letter in text.replace("\r\n", "\n")
    )


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
    """Print a heading and labelled lines, without those that are None.

    The command of COMMAND is last and one line, however long, so that it can be copied.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {label: text for label, text in facts.items() if text is not None}
    command, width = rows.pop(COMMAND, None), max(map(len, rows), default=0)
    for label, text in rows.items():
        table.add_row(f"  {shown(label, stderr=stderr)}", escape(shown(text, stderr=stderr)))
    if rows or title:
        _print_titled(title, table, stderr=stderr)
    if command is not None:
        out = console(stderr=stderr)
        line = Text(f"  {COMMAND:{width}}  ", style="dim").append(
            shown(command, stderr=stderr), style="not dim"
        )
        out.print(line, soft_wrap=True)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()
) -> None:
    """Print a table; `numbers` are the indices of the right-aligned columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    _print_titled(title, table)


def _print_titled(title: str, table: Table, *, stderr: bool = False) -> None:
    out = console(stderr=stderr)
    if title:
        out.print(Text(shown(title, stderr=stderr), style="bold"))
    out.print(table)


def say(text: str) -> None:
    """Print a message on stderr; in a pipe it is one line, however long."""
    out = console(stderr=True)
    out.print(Text(shown(text, stderr=True), style="dim"), soft_wrap=not out.is_terminal)


def read_stdin() -> str:
    """All of standard input: UTF-8 without a byte-order mark, with line feeds alone.

    Errors: UsageError for another encoding.
    """
    return "".join(stdin_lines())


def stdin_lines() -> Iterator[str]:
    """The lines of standard input as they arrive, as `read_stdin` has them."""
    first = True
    for line in sys.stdin.buffer:
        try:
            text = line.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"the input is not UTF-8 ({error.reason}); convert it to UTF-8") from None
        first = False
        yield text.replace("\r\n", "\n")
