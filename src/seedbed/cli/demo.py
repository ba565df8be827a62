"""`seedbed demo`: the whole life cycle in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli.console import print_facts, print_json
from seedbed.cli.options import Budget, Json


def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("demo"),
    budget: Budget = 150.0,
    as_json: Json = False,
) -> None:
    """Go through the whole life cycle in minutes on text that Python ships, ending in report.html.

    A tokenizer, a plan, a Transformer and an LSTM of the same size trained on the same tokens, completions, a report.
    """
    from seedbed.api.demo import demo as run_demo
    from seedbed.cli.progress import TrainingProgress

    assert budget is not None
    result = run_demo(out=out, budget_seconds=budget, progress=TrainingProgress)
    if as_json:
        print_json(result)
    else:
        print_facts("Demo", {})
