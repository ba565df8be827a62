"""`seedbed resume`: continue a run from its own settings, also past its end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli.options import Device, Json, TensorBoardFlag, TimeFromNow


def resume(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Train to N steps in all, the ones done included.")
    ] = None,
    budget: TimeFromNow = None,
    device: Device = "auto",
    tensorboard: TensorBoardFlag = False,
    json: Json = False,
) -> None:
    """Continue a run from its own settings, to its end or past it."""
    from functools import partial

    from seedbed.api import pretrain as api
    from seedbed.cli.pretrain import train_and_print

    train = partial(api.resume, run, steps=steps, budget_seconds=budget, device=device)
    train_and_print(context, train, out=run, tensorboard=tensorboard, json=json)
