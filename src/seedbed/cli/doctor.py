"""`seedbed doctor`: what this machine has and can train; what a folder holds and lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli.options import Json


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(help="A model's, run's, tokenizer's or demo's folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what this machine has and can train, or what a folder holds and lacks."""
