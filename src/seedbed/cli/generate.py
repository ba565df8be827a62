"""`seedbed generate`: completions, and filled blanks."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from seedbed.base.errors import BundleError, UsageError
from seedbed.cli.options import MODEL_HELP, AllowPickle, Device, Dtype, Json, read_settings, takes_settings
from seedbed.generation.settings import GenerationSettings


@takes_settings()
def generate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="Texts to complete; default: stdin.")
    ] = None,
    *,
    fill: Annotated[
        bool, typer.Option("--fill", help="Fill the blanks ___ of each prompt, at most 16 tokens per blank.")
    ] = False,
    num_candidates: Annotated[
        int, typer.Option(metavar="N", help="With --fill: candidates to print per blank.")
    ] = 5,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    json: Json = False,
    **flags: Any,
) -> None:
    """Complete prompts or fill blanks. A single completion is streamed."""
    from seedbed.cli.answers import check_flags, complete, fill_blanks
    from seedbed.cli.waiting import Waiting
    from seedbed.generation.loading import load
    from seedbed.hub.model_contents import advice

    how, given = read_settings(context)
    check_flags(given, fill=fill)
    GenerationSettings(**how)  # a wrong value is refused before the model is loaded
    texts = prompts or [_from_stdin()]
    if how["logprobs"] and not json:
        raise UsageError("--logprobs has no effect without --json; add --json")
    with Waiting(f"loading {model}"):
        lm = load(model, dtype=dtype, device=device, allow_pickle=allow_pickle)
    if lm.tokenizer is None:
        raise BundleError(
            f"{model} has no tokenizer.json, which a text prompt needs; put the tokenizer that the model was "
            "trained with beside its config.json, or pass token ids to seedbed.load(...).generate in Python"
        )
    if lm.config.head.labels:
        raise UsageError(
            f"the head of {model} gives labels, not text; run {advice(model, lm.config, lm.tokenizer, {})}"
        )
    if fill:
        limit = how["max_new_tokens"] if "max_new_tokens" in given else None
        fill_blanks(lm, texts, num_candidates, max_new_tokens=limit, json=json)
    else:
        complete(lm, texts, how, given, json)


def _from_stdin() -> str:
    """Read the prompt from a pipe, without the newline that a shell appends."""
    if sys.stdin.isatty():
        raise UsageError('no prompt; write seedbed generate MODEL "a prompt", or pipe one in')
    return sys.stdin.read().removesuffix("\n")
