"""`seedbed plan`: the cost of a run before it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from seedbed.cli.options import Device, Json, Overrides


def plan(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A preset such as gpt2:124m, a family, or a model as for export."
        ),
    ],
    overrides: Overrides = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Predict the memory, time and compute of a training run. A few steps are timed on this machine."""
    from seedbed.api.plan import plan_with_settings
    from seedbed.cli.console import print_json
    from seedbed.cli.progress import show_plan
    from seedbed.cli.waiting import Waiting

    with Waiting("measuring a few steps on this machine"):
        planned, settings = plan_with_settings(model, overrides=overrides or [], device=device)
    if json:
        print_json(planned.to_dict())
    else:
        show_plan(planned.to_dict(), settings, stderr=False)
