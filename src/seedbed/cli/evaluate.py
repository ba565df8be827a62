"""`seedbed evaluate`: scores as papers quote them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from seedbed.base.errors import UsageError
from seedbed.cli.options import Json

PROMPT = r"Text: {input}\nLabel: {target}"
File = Path | None
Model = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="A model that labels the texts of --data by prompt.")
]
Task = Annotated[str, typer.Option(help="summarize, translate, classify, extract, answer or write.")]
Predictions = Annotated[File, typer.Option(metavar="FILE", help="Outputs: lines, JSON Lines, CoNLL columns.")]
References = Annotated[File, typer.Option(metavar="FILE", help="What they should be, in the same order.")]
Against = Annotated[File, typer.Option(metavar="FILE", help="Another system's outputs, to compare with.")]
Data = Annotated[str | None, typer.Option(metavar="DATA", help="With a MODEL: records to test.")]
Examples = Annotated[
    str | None, typer.Option(metavar="DATA", help="Records for the shots; none of them is tested.")
]
NumShots = Annotated[int, typer.Option(metavar="N", min=0, help="Examples in the prompt.")]
Shots = Annotated[Literal["balanced", "random"], typer.Option("--shots", help="How examples are chosen.")]
Template = Annotated[str, typer.Option(metavar="TEXT", help="The prompt of one example.")]
Labels = Annotated[
    str, typer.Option("--labels", metavar="A=WORD,..", help="Words for labels: 0=negative,1=positive.")
]
NumRecords = Annotated[int | None, typer.Option(metavar="N", min=1, help="Test a sample of so many records.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of shots, sample and intervals.")]


def evaluate(
    model: Model = None,
    *,
    task: Task,
    predictions: Predictions = None,
    references: References = None,
    against: Against = None,
    data: Data = None,
    examples: Examples = None,
    num_shots: NumShots = 0,
    choice: Shots = "balanced",
    prompt: Template = PROMPT,
    names: Labels = "",
    num_records: NumRecords = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Score a model by prompt, or the outputs of any system, by a task's metrics with 95% intervals."""
    from seedbed.api.evaluate import evaluate_labels, evaluate_outputs
    from seedbed.cli.console import print_json
    from seedbed.cli.waiting import Waiting

    if (model is None) == (predictions is None):
        raise UsageError("give a MODEL with --data, or --predictions FILE with --references FILE")
    if predictions is not None:
        with Waiting(f"scoring {predictions}"):
            found = evaluate_outputs(task, predictions, references=references, against=against, seed=seed)
        title = f"{task}: {found['num_records']:,} records of {predictions}"
    else:
        if task != "classify" or data is None:
            raise UsageError("a MODEL is scored by prompt on --task classify with --data DATA so far")
        assert model is not None
        how: dict[str, Any] = {"examples": examples, "num_shots": num_shots, "choice": choice, "seed": seed}
        how |= {"prompt": prompt.replace("\\n", "\n"), "names": _names(names), "num_records": num_records}
        with Waiting(f"scoring {model} on {data}"):
            found = evaluate_labels(model, data, **how)
        shots = f"{found['num_shots']} shot{'s' * (found['num_shots'] != 1)}"
        title = f"{model}, {shots}: {found['num_records']:,} records of {data}"
    if json:
        print_json(found)
    else:
        _show(title, found)


def _names(text: str) -> dict[str, str]:
    """The words of labels from `0=negative,1=positive`."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if wrong := next((label for label, equals, word in pairs if not equals or not word.strip()), None):
        raise UsageError(f"--labels: {wrong.strip()!r} has no word; write 0=negative,1=positive")
    return {label.strip(): word.strip() for label, _, word in pairs}


def _show(title: str, found: Mapping[str, Any]) -> None:
    """Print the scores, a comparison, and what papers quote beside them."""
    from seedbed.base.units import seconds_text
    from seedbed.cli.console import print_facts, print_table

    columns, more = ["metric", "score", "95% interval"], {}
    if "difference" in found:
        columns, more = [*columns, "difference", "its 95% interval", "p"], found["difference"]
    elif "calibrated" in found:
        columns, more = [*columns, "calibrated", "95% interval"], found["calibrated"]
    rows = []
    for name, score in found["metrics"].items():
        if name == "confusion":
            continue
        row = [name, _number(score["value"]), _interval(score)]
        if more:
            row += [_number(more[name]["value"]), _interval(more[name])]
        if "difference" in found:
            p_value = more[name]["p_value"]
            row.append("" if p_value is None else f"{p_value:.3f}")
        rows.append(row)
    print_table(title, columns, rows, numbers=range(1, len(columns)))
    named: dict[str, list[str]] = {}
    for name, signature in found.get("signatures", {}).items():
        named.setdefault(signature, []).append(name)
    facts = {", ".join(names): signature for signature, names in named.items()}
    if "calibrated" in found:
        facts["calibrated"] = "less each label's mean over all texts"
        facts["time"] = seconds_text(found["seconds"])
    print_facts("", facts)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(score: Mapping[str, Any]) -> str:
    if score["interval"] is None:
        return "not measurable"
    low, high = map(_number, score["interval"])
    return f"{low} to {high}"
