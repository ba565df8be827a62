"""`seedbed chat`: a conversation in the terminal, or with messages from a pipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from seedbed.cli.options import MODEL_HELP, AllowPickle, Device, Dtype, Json, read_settings, takes_settings
from seedbed.generation.settings import GenerationSettings


@takes_settings(but=["logprobs", "num_samples"], max_new_tokens=256)
def chat(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help=f"{MODEL_HELP} It must have a chat template.")
    ],
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The system prompt.")] = None,
    load: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Resume a conversation that /save wrote.")
    ] = None,
    *,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    json: Json = False,
    **flags: Any,
) -> None:
    """Chat with a model. From a pipe, each line is a message.

    Settings without a flag are the model's own (generation_config.json). Without those, and without a flag of
    sampling, they are temperature 0.7 and top-p 0.9; a flag of sampling leaves only the temperature of 0.7.
    """
    from seedbed.cli.answers import report_settings
    from seedbed.cli.chat_session import Session, run_in_pipe, run_in_terminal
    from seedbed.cli.console import print_json
    from seedbed.cli.waiting import Waiting
    from seedbed.generation.loading import load as load_model

    how, given = read_settings(context)
    settings = GenerationSettings(**how)
    with Waiting(f"loading {model}"):
        lm = load_model(model, dtype=dtype, device=device, allow_pickle=allow_pickle)
    session = Session(lm, settings, system=system, load=load)
    report_settings(lm, settings, given)
    if sys.stdin.isatty() and not json:
        run_in_terminal(session, model)
        return
    code = run_in_pipe(session, is_quiet=json)
    if json:
        print_json({"messages": session.talk.messages})
    if code:
        raise typer.Exit(code)
