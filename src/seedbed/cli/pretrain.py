"""`seedbed pretrain`: from a corpus to a base model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seedbed.base.plugins import PluginPackage
from seedbed.cli.options import Budget, Device, Json, Out, Overrides, SettingsFile, Show, TensorBoardFlag

DATA_HELP = "A file or folder: text, JSON (Lines), CSV, TSV, CoNLL, Parquet; or builtin:prose, builtin:code."
OBJECTIVES = PluginPackage[Any]("seedbed.objectives", "OBJECTIVE").names()  # without importing one
Base = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="A model to start from, with its own family and tokenizer."),
]
TokenizerFolder = Annotated[
    str | None, typer.Option(help="A folder with tokenizer.json; default: train one.")
]
Objective = Annotated[str | None, typer.Option(help=f"{', '.join(OBJECTIVES)}; default: the family's.")]

ANSWER_CHARACTERS = 200  # of each text of an answer that is shown
MOST_UNUSED = 0.1  # of a budget, without a word about it

if TYPE_CHECKING:
    from seedbed.runs.settings import RunSettings
    from seedbed.runs.train import Run
    from seedbed.select.plan import Plan
    from seedbed.training.loop import Callback


def pretrain(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Out,
    family: Annotated[
        str | None, typer.Option(help="The model family: bert, gpt2, llama, t5, bart, lstm, seedling ...")
    ] = None,
    base: Base = None,
    recipe: Annotated[str | None, typer.Option(help="Preset training settings: fast or classic.")] = None,
    settings: SettingsFile = None,
    steps: Annotated[int | None, typer.Option(help="Number of training steps.")] = None,
    budget: Budget = None,
    tokenizer: TokenizerFolder = None,
    objective: Objective = None,
    overrides: Overrides = None,
    device: Device = "auto",
    show: Show = None,
    tensorboard: TensorBoardFlag = False,
    json: Json = False,
) -> None:
    """Train a model on text or labelled records. The same command resumes a stopped run.

    The fields of DATA select what is learned: text and label a classifier, tokens and tags (or CoNLL) a
    tagger, prompt and completion a model that answers, messages a chat model; else a language model.
    Example: seedbed pretrain reviews.csv --base MODEL --out RUN
    """
    options: dict[str, Any] = {
        "family": family,
        "base": base,
        "recipe": recipe,
        "settings_file": settings,
        "steps": steps,
        "budget_seconds": budget,
        "tokenizer": tokenizer,
        "objective": objective,
        "overrides": overrides or [],
    }
    train_or_show(
        context, data, options, out=out, show=show, device=device, tensorboard=tensorboard, json=json
    )


def train_or_show(
    context: typer.Context,
    data: str,
    options: dict[str, Any],
    *,
    out: Path,
    show: int | None,
    device: str,
    tensorboard: bool,
    json: bool,
) -> None:
    """Train with these options of `pretrain`, or print the first `show` examples."""
    from seedbed.api import pretrain as api
    from seedbed.cli.examples import show_examples
    from seedbed.cli.waiting import Waiting

    if show is not None:
        with Waiting() as waiting:
            examples = api.show(data, out=out, num=show, notify=waiting.say, **options)
        show_examples(examples, json=json)
        return
    train = partial(api.pretrain, data, out=out, **options, device=device)
    train_and_print(context, train, out=out, tensorboard=tensorboard, json=json)


def train_and_print(
    context: typer.Context, train: Callable[..., Run], *, out: Path, tensorboard: bool, json: bool
) -> None:
    """Train with a display of the plan and the progress, and print the result."""
    from seedbed.base.json_file import read_object
    from seedbed.cli.console import print_json
    from seedbed.cli.examples import show_learned
    from seedbed.cli.progress import TrainingProgress, show_plan
    from seedbed.cli.waiting import Waiting
    from seedbed.report.run_files import EXAMPLES
    from seedbed.training.tensorboard import TensorBoard

    with Waiting() as waiting:
        progress = TrainingProgress(waiting=waiting)
        callbacks: list[Callback] = [progress]
        if tensorboard:
            callbacks.append(TensorBoard(out / "tensorboard"))

        def on_plan(plan: Plan, chosen: RunSettings) -> None:
            show_plan(plan.to_dict(), chosen)
            if chosen.model.base is not None and chosen.data.form != "text":
                show_learned(read_object(out / EXAMPLES)["examples"][0])
            waiting.expect("training")

        result = train(
            callbacks=callbacks,
            notify=waiting.say,
            on_plan=on_plan,
            started=context.obj,
        )
    if result.is_main and json:
        print_json(result.summary())
    elif result.is_main:
        _print_result(result, before=progress.began - context.obj, whole=perf_counter() - context.obj)


def _answers(task: Mapping[str, Any] | None) -> dict[str, str]:
    """The answers to one record of a task, before and after the training."""
    if task is None or not task["answers"]:
        return {}
    first = task["answers"][0]
    names = {"text": "a record", "reference": "its answer", "before": "before", "after": "after"}
    return {
        f"  {said}": " ".join(str(first[key]).split())[:ANSWER_CHARACTERS]
        for key, said in names.items()
        if first[key] is not None
    }


def _print_result(result: Run, *, before: float, whole: float) -> None:
    """Print the model, its held-out figures, and its cost beside the plan."""
    from seedbed.base.units import bytes_text, seconds_text
    from seedbed.cli.console import print_facts
    from seedbed.evaluation.summary import best_step_text, summary_rows

    unused = result.unused_share
    further = f"{unused:.0%} of it is unused; `seedbed resume {result.run} --budget TIME` trains further"
    plan, measured, metrics = result.plan, result.measured, result.metrics
    print_facts(
        f"Trained {metrics['step']:,} steps",
        {
            "model": str(result.model),
            **summary_rows(metrics),
            **_answers(metrics.get("task")),
            "best step": best_step_text(metrics),
            "did it work": f"{metrics['worked']}: {metrics['because']}",
            "warning": None if metrics["worked"] == "too few to say" else result.data["warning"] or None,
            "training time": f"{seconds_text(measured['seconds'])}, planned {seconds_text(plan['seconds'])}",
            "this command": f"{seconds_text(whole)} in all, {seconds_text(before)} of it before the training",
            "budget": further if unused > MOST_UNUSED else None,
            "memory": f"{bytes_text(measured['peak_bytes'])} at the peak, planned "
            f"{bytes_text(plan['peak_bytes'])}",
            "report": str(result.report),
            "next": result.next,
        },
    )
