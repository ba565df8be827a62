"""`seedbed plan`: what a run costs before it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from seedbed.cli.options import Device, Json, Overrides


def plan(
    model: Annotated[
        str, typer.Argument(help="A preset such as gpt2:124m, a family, or a model as export takes it.")
    ],
    overrides: Overrides = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Predict the memory, the time and the cost of a training, from the configuration and a short probe."""
    from seedbed.api.plan import plan_with_settings
    from seedbed.cli.console import print_json
    from seedbed.cli.progress import show_plan

    planned, settings = plan_with_settings(model, overrides=overrides or [], device=device)
    if json:
        print_json(planned.to_dict())
    else:
        show_plan(planned.to_dict(), settings, stderr=False)
