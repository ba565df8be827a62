"""`seedbed plan`: memory, time and cost of a run before it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from seedbed.cli.options import Json


def plan(
    model: Annotated[
        str, typer.Argument(help="A preset such as gpt2:124m, or the folder of a bundle or run.")
    ],
    as_json: Json = False,
) -> None:
    """Say what a training run will need before it starts."""
