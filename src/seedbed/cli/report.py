"""`seedbed report`: one page of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli.options import Json


def report(
    folder: Annotated[Path, typer.Argument(help="A run's or a project's folder.")] = Path(),
    json: Json = False,
) -> None:
    """Write report.html from the files of a run's or a project's folder."""
    from seedbed.cli.console import print_json
    from seedbed.cli.waiting import Waiting
    from seedbed.report.run_report import write_report

    with Waiting(f"reading {folder}"):
        page = write_report(folder)
    if json:
        print_json({"report": str(page)})
    else:
        print(page)
