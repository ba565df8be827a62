"""`seedbed pretrain`: from a corpus to a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli.console import print_json
from seedbed.cli.options import Budget, Json, Out, Overrides


def pretrain(
    data: Annotated[str, typer.Argument(help="A file, a folder, builtin:prose or builtin:code.")],
    out: Out,
    family: Annotated[
        str | None, typer.Option("--family", help="gpt2, llama, lstm, gru or seedling.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="fast: what the field has learnt since nanoGPT.")
    ] = None,
    objective: Annotated[str, typer.Option("--objective", help="What is learnt from the text.")] = "causal",
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="A kind to train, or a folder that has one.")
    ] = None,
    settings: Annotated[Path | None, typer.Option("--settings", help="A TOML file of settings.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Short for --set training.num_steps=N.")
    ] = None,
    budget: Budget = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Pre-train a model from scratch on a corpus; the same command again resumes."""
    from seedbed.api.pretrain import pretrain as run_pretrain
    from seedbed.cli.progress import TrainingProgress

    result = run_pretrain(
        data,
        out=out,
        family=family,
        recipe=recipe,
        settings_file=settings,
        overrides=overrides or [],
        steps=steps,
        budget_seconds=budget,
        tokenizer=tokenizer,
        objective=objective,
        callbacks=[TrainingProgress()],
    )
    if as_json:
        print_json(result.summary())
