"""`seedbed evaluate`: scores as papers quote them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seedbed.cli.options import Json


def evaluate(
    task: Annotated[
        str, typer.Option("--task", help="summarize, translate, classify, extract, answer or write.")
    ],
    predictions: Annotated[
        Path, typer.Option(metavar="FILE", help="A system's outputs: lines, JSON Lines or CoNLL columns.")
    ],
    references: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What they should be, in the same order.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another system's outputs, to compare with.")
    ] = None,
    json: Json = False,
) -> None:
    """Score the outputs of any system by a task's metrics, with 95% intervals."""
    from seedbed.api.evaluate import evaluate_outputs
    from seedbed.cli.console import print_facts, print_json, print_table
    from seedbed.cli.waiting import Waiting

    with Waiting(f"scoring {predictions}"):
        found = evaluate_outputs(task, predictions, references=references, against=against)
    if json:
        print_json(found)
        return
    columns, rows = ["metric", "score", "95% interval"], []
    if against is not None:
        columns += ["difference", "its 95% interval", "p"]
    for name, score in found["metrics"].items():
        row = [name, _number(score["value"]), _interval(score)]
        if against is not None:
            difference = found["difference"][name]
            p_value = difference["p_value"]
            row += [_number(difference["value"]), _interval(difference)]
            row += ["" if p_value is None else f"{p_value:.3f}"]
        rows.append(row)
    title = f"{task}: {found['num_records']:,} records of {predictions}"
    print_table(title, columns, rows, numbers=range(1, len(columns)))
    named: dict[str, list[str]] = {}
    for name, signature in found["signatures"].items():
        named.setdefault(signature, []).append(name)
    print_facts("", {", ".join(names): signature for signature, names in named.items()})


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(score: dict[str, Any]) -> str:
    if score["interval"] is None:
        return "not measurable"
    low, high = map(_number, score["interval"])
    return f"{low} to {high}"
