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
    data: Annotated[
        str | None,
        typer.Option(help="Plan the run of pretrain on this data; else rows are as long as the context."),
    ] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Predict the memory, time and compute of a training run. A few steps are timed on this machine."""
    from seedbed.api.plan import plan_with_settings
    from seedbed.cli.console import print_json
    from seedbed.cli.progress import show_plan
    from seedbed.cli.waiting import Waiting

    with Waiting() as waiting:
        planned, settings = plan_with_settings(
            model, data=data, overrides=overrides or [], device=device, notify=waiting.say
        )
    if json:
        print_json(planned.to_dict())
    else:
        show_plan(planned.to_dict(), settings, stderr=False, has_data=data is not None)
