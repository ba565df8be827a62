"""`seedbed evaluate`: scores as papers quote them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from seedbed.base.errors import UsageError
from seedbed.cli.options import Json

File = Path | None
Model = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="A model; it answers --data by prompt, or with its head."),
]
Task = Annotated[
    str,
    typer.Option(
        metavar="TASK",
        help="summarize, translate, classify, extract, tag, answer, write, code, or a TOML file with [task].",
    ),
]
Data = Annotated[str | None, typer.Option(metavar="DATA", help="Records to test: a file or a folder.")]
ForceOut = Annotated[bool, typer.Option("--force", help="Replace what --out and --save have.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="data.input=FIELD, data.target=FIELD, task.metric=NAME, generation.top_p=0.9, ..",
    ),
]
Predictions = Annotated[
    File,
    typer.Option(metavar="FILE", help="Instead of a MODEL: outputs; lines, JSON Lines, CSV, CoNLL columns."),
]
References = Annotated[File, typer.Option(metavar="FILE", help="What they should be, in the same order.")]
Against = Annotated[File, typer.Option(metavar="FILE", help="Another system's outputs, to compare with.")]
NumShots = Annotated[int, typer.Option(metavar="N", min=0, help="Examples in the prompt.")]
Examples = Annotated[
    str | None, typer.Option(metavar="DATA", help="Records for the shots; none of them is tested.")
]
Shots = Annotated[
    Literal["balanced", "random", "first", "bm25", "embeddings"],
    typer.Option("--shots", help="How examples are chosen; the last two: the nearest to each text."),
]
Prompt = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help=r"One example up to its answer: 'Review: {input}\nSentiment:'."),
]
Instruction = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The message to a chat model, with {input}.")
]
Chat = Annotated[
    bool | None,
    typer.Option(
        "--chat/--no-chat",
        help="Through the chat template. Default: if there is one, and no --prompt alone.",
    ),
]
Labels = Annotated[
    str, typer.Option("--labels", metavar="A,B,..", help="Labels, or words for them: 0=negative,1=positive.")
]
How = Annotated[
    Literal["likelihood", "generation", "head"] | None,
    typer.Option(help="By the most likely label, generated text, or the model's head. Default: the task's."),
]
Calibration = Annotated[
    Literal["none", "batch", "content_free"],
    typer.Option(help="What labels by likelihood are corrected by; `batch` is shown beside `none`."),
]
MaxNewTokens = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Of an answer. Default: the task's.")
]
NumRecords = Annotated[int | None, typer.Option(metavar="N", min=1, help="Test a sample of so many records.")]
Draws = Annotated[
    int, typer.Option("--draws", metavar="N", min=1, help="Choices of examples, with seeds from --seed.")
]
Orders = Annotated[int, typer.Option("--orders", metavar="N", min=1, help="Orders of the same examples.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of shots, sample and intervals.")]
Out = Annotated[
    File, typer.Option(metavar="DIR", help="Keep answers and a page there; the same command continues.")
]
Save = Annotated[File, typer.Option(metavar="DIR", help="Leave the solution, for `seedbed predict`.")]


def evaluate(
    model: Model = None,
    *,
    task: Task,
    data: Data = None,
    num_shots: NumShots = 0,
    examples: Examples = None,
    shots: Shots = "balanced",
    prompt: Prompt = None,
    instruction: Instruction = None,
    chat: Chat = None,
    labels: Labels = "",
    answering: How = None,
    calibration: Calibration = "none",
    max_new_tokens: MaxNewTokens = None,
    num_records: NumRecords = None,
    draws: Draws = 1,
    orders: Orders = 1,
    seed: Seed = 0,
    out: Out = None,
    save: Save = None,
    force: ForceOut = False,
    predictions: Predictions = None,
    references: References = None,
    against: Against = None,
    overrides: Settings = None,
    json: Json = False,
) -> None:
    """Score a model on a task without training it, or the outputs of any system, with 95% intervals."""
    from seedbed.api.evaluate import evaluate_outputs
    from seedbed.cli.console import print_json
    from seedbed.cli.waiting import Waiting
    from seedbed.evaluation.task import TaskSettings

    if (model is None) == (predictions is None):
        raise UsageError("give a MODEL with --data, or --predictions FILE with --references FILE")
    for_outputs = {"references": references, "against": against}
    for_model = {"data": data, "examples": examples, "out": out, "save": save, "num-shots": num_shots or None}
    _refuse(for_outputs if predictions is None else for_model, predictions)
    changes, generation = _settings(overrides or [])
    texts = {"prompt": _unescaped(prompt), "instruction": _unescaped(instruction)}
    settings = TaskSettings.of(task, **texts, labels=_labels(labels), max_new_tokens=max_new_tokens)
    settings = settings.overridden(changes) if changes else settings
    if predictions is not None:
        with Waiting(f"scoring {predictions}"):
            found = evaluate_outputs(settings, predictions, references=references, against=against, seed=seed)
        title = f"{settings.title}: {found['num_records']:,} records of {predictions}"
    else:
        assert model is not None
        how: dict[str, Any] = {"num_shots": num_shots, "shots": shots, "examples": examples, "chat": chat}
        how |= {"answering": answering, "calibration": calibration, "generation": generation, "seed": seed}
        how |= {"num_records": num_records, "num_draws": draws, "num_orders": orders}
        how |= {"out": out, "save": save, "force": force}
        title, found = _scored(model, settings, data, how)
    print_json(found) if json else _show(title, found)


def _scored(
    model: str, settings: Any, data: str | None, how: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Score a model: the title of its table, and the figures."""
    from seedbed.api.evaluate import evaluate as evaluate_model
    from seedbed.cli.answering import Answers

    if data is None:
        raise UsageError("a MODEL needs records to answer: give --data FILE")
    with Answers(f"loading {model}") as progress:
        result = evaluate_model(model, settings, data, callback=progress.show, **how)
    found = result.to_dict()
    found |= {name: str(how[name]) for name in ("out", "save") if how[name] is not None}
    found["calibration"] = how["calibration"]
    return f"{model}, {_asked(found)}: {settings.title}, {found['num_records']:,} records of {data}", found


def _refuse(options: Mapping[str, Any], predictions: Path | None) -> None:
    """Refuse options that belong to a model, or to the outputs of another system."""
    if wrong := next((name for name, value in options.items() if value is not None), None):
        what = "--predictions" if predictions is None else "a MODEL"
        raise UsageError(f"--{wrong} belongs to {what}; leave it out")


def _unescaped(text: str | None) -> str | None:
    """A text from a shell, in which line ends are written as two characters."""
    return None if text is None else text.replace("\\n", "\n").replace("\\t", "\t")


def _settings(overrides: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The flags of `--set` for a task, those of its data among them, and the settings of generation."""
    from seedbed.base.errors import nearest
    from seedbed.base.settings import layered
    from seedbed.evaluation.task import TaskSettings

    tree = layered(overrides=overrides)
    allowed = {"data": ["input", "target"], "generation": None}
    allowed["task"] = [each.name for each in dataclasses.fields(TaskSettings)]
    for table, values in tree.items():
        if table not in allowed or not isinstance(values, dict):
            raise UsageError(f"--set {table}: unknown here; {nearest(table, allowed)}, as task.metric=rouge1")
        names = allowed[table]
        if names is not None and (wrong := next((name for name in values if name not in names), None)):
            raise UsageError(f"--set {table}.{wrong}: unknown here; {nearest(wrong, names)}")
    of_task = [each for each in overrides if each.partition(".")[0].strip() != "generation"]
    changes = [f"task.{each.partition('.')[2]}" for each in of_task]
    return changes, tree.get("generation", {})


def _labels(text: str) -> tuple[str, ...] | dict[str, str] | None:
    """Labels from `good,bad`, or with their words from `0=negative,1=positive`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        return None
    if not any("=" in part for part in parts):
        return tuple(parts)
    pairs = [part.partition("=") for part in parts]
    if wrong := next((label for label, equals, word in pairs if not equals or not word.strip()), None):
        raise UsageError(f"--labels: {wrong.strip()!r} has no word; write 0=negative,1=positive")
    return {label.strip(): word.strip() for label, _, word in pairs}


def _asked(found: Mapping[str, Any]) -> str:
    if found["answering"] == "head":
        return "its own head"
    shots = f"{found['num_shots']} shot{'s' * (found['num_shots'] != 1)}"
    return f"{shots}, {'as a chat' if found['chat'] else 'as a text'}"


def _show(title: str, found: Mapping[str, Any]) -> None:
    """Print the scores, a comparison, and what papers quote beside them."""
    from seedbed.base.units import seconds_text
    from seedbed.cli.console import print_facts, print_table

    columns, more, mark = ["metric", "score", "95% interval"], {}, ""
    unknown = any(score["interval"] is None for score in found["metrics"].values())
    by_calibration = found.get("by_calibration", {})
    if "difference" in found:
        columns, more = [*columns, "difference", "its 95% interval", "p"], found["difference"]
    elif by_calibration:
        mark = next((name for name in ("content_free", "batch") if name in by_calibration), "")
        columns = ["metric", "uncalibrated", "95% interval", mark.replace("_", "-"), "95% interval"]
        more = by_calibration[mark]
        found = {**found, "metrics": by_calibration["none"]}
    rows = []
    for name, score in found["metrics"].items():
        row = [name, _number(score["value"]), _interval(score)]
        if more:
            row += [_number(more[name]["value"]), _interval(more[name])]
        if "difference" in found:
            p_value = more[name]["p_value"]
            row.append("" if p_value is None else f"{p_value:.3f}")
        rows.append(row)
    print_table(title, columns, rows, numbers=range(1, len(columns)))
    if "variants" in found:
        _show_variants(found["variants"], next(iter(found["metrics"])))
    named: dict[str, list[str]] = {}
    for name, signature in found.get("signatures", {}).items():
        named.setdefault(signature, []).append(name)
    facts: dict[str, str | None] = {", ".join(names): signature for signature, names in named.items()}
    if mark:
        over = "the tested texts" if mark == "batch" else "texts that say nothing"
        facts[mark.replace("_", "-")] = f"less each label's mean log-likelihood over {over}"
    if unknown:
        facts["intervals"] = "need 30 records or more, which are not all alike"
    if "seconds" in found:
        facts["time"] = seconds_text(found["seconds"])
    if found.get("num_fewer_shots"):
        facts["fewer shots"] = f"{found['num_fewer_shots']:,} prompts, for want of context"
    if "out" in found:
        facts["report"] = str(Path(found["out"]) / "report.html")
    if "save" in found:
        kept = f" ({found['calibration'].replace('_', '-')} calibration)" if mark else ""
        kept = kept.replace("none calibration", "uncalibrated; --calibration batch keeps that")
        facts |= {"solution": f"{found['save']}{kept}", "next": f"seedbed predict {found['save']} FILE"}
    print_facts("", facts)


def _show_variants(variants: Mapping[str, Any], metric: str) -> None:
    """Print the main metric of each draw and order, their mean and standard deviation."""
    from statistics import fmean, stdev

    from seedbed.cli.console import print_table

    kinds = list(next(iter(variants.values())))
    values = [[each[kind][metric]["value"] for kind in kinds] for each in variants.values()]
    rows = [[name, *map(_number, row)] for name, row in zip(variants, values, strict=True)]
    for name, summary in (("mean", fmean), ("standard deviation", stdev)):
        rows.append([name, *(_number(summary(column)) for column in zip(*values, strict=True))])
    print_table("", ["shots", *(f"{metric}, {kind}" for kind in kinds)], rows, numbers=range(1, 9))


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(score: Mapping[str, Any]) -> str:
    if score["interval"] is None:
        return "not measurable"
    low, high = map(_number, score["interval"])
    return f"{low} to {high}"
