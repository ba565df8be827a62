"""`seedbed settings`: every setting of a run."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from seedbed.cli.options import Json


def settings(
    table: Annotated[
        str | None,
        typer.Argument(metavar="TABLE", help="A table, as training, or a key, as training.learning_rate."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all as a page of Markdown.")] = False,
    json: Json = False,
) -> None:
    """List the settings of a run: default, allowed values, meaning. Each is set with --set KEY=VALUE."""
    from seedbed.cli.console import console, print_json
    from seedbed.runs.meanings import REQUIRED, selected
    from seedbed.runs.meanings import markdown as page

    found = selected(table)
    if markdown:
        print(page(), end="")
        return
    if json:
        print_json({"settings": [each.to_dict() for each in found]})
        return
    out, heading = console(), ""
    for each in found:
        own = f"[{each.table}]" + (f" of {each.plugin}" if each.plugin else "")
        if own != heading:
            out.print(f"{heading and chr(10)}{own}", style="bold", markup=False)
            heading = own
        is_set = each.default not in (None, REQUIRED)
        shown = f"= {each.default_text}" if is_set else f"({each.default_text})"
        out.print(f"{each.key} {shown}", markup=False)
        indent = "    "
        for line in textwrap.wrap(each.sentence, out.width, initial_indent=indent, subsequent_indent=indent):
            out.print(line, style="dim", markup=False)
