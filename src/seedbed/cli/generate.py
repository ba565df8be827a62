"""`seedbed generate`: completions, and filled blanks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seedbed.base.errors import BundleError, UsageError
from seedbed.cli.options import MODEL_HELP, AllowPickle, Device, Dtype, Json, read_settings, takes_settings
from seedbed.generation.settings import GenerationSettings

if TYPE_CHECKING:
    from seedbed.generation.language_model import LanguageModel


@takes_settings()
def generate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="Texts to complete; default: stdin.")
    ] = None,
    *,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Complete a file of prompts, a line each or JSON Lines with prompt or messages; prints JSON "
            "Lines.",
        ),
    ] = None,
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
    """Complete prompts or fill blanks. A single completion is streamed.

    Settings without a flag are the model's own (generation_config.json). Without those, and without a flag of
    sampling, they are temperature 0.7 and top-p 0.9; a flag of sampling leaves only the temperature of 0.7.
    """
    from seedbed.cli.answers import check_flags, complete, fill_blanks, report_settings
    from seedbed.cli.prompts import complete_file

    how, given = read_settings(context)
    check_flags(given, fill=fill)
    settings = GenerationSettings(**how)  # a wrong value is refused before the model is loaded
    if prompts_file is not None and (prompts or fill):
        raise UsageError("--prompts has the prompts; leave out the others, and --fill")
    texts = prompts or ([] if prompts_file is not None else [_from_stdin()])
    if how["logprobs"] and not json and prompts_file is None:
        raise UsageError("--logprobs has no effect without --json; add --json")
    lm = _load(model, dtype=dtype, device=device, allow_pickle=allow_pickle)
    if prompts_file is not None:
        report_settings(lm, settings, given)
        complete_file(lm, prompts_file, how)
    elif fill:
        limit = how["max_new_tokens"] if "max_new_tokens" in given else None
        fill_blanks(lm, texts, num_candidates, max_new_tokens=limit, json=json)
    else:
        complete(lm, texts, how, given, json)


def _load(model: str, **how: Any) -> LanguageModel:
    """Load a model that answers with text."""
    from seedbed.cli.waiting import Waiting
    from seedbed.generation.loading import load
    from seedbed.hub.model_contents import advice

    with Waiting(f"loading {model}"):
        lm = load(model, **how)
    if lm.tokenizer is None:
        raise BundleError(
            f"{model} has no tokenizer.json, which a text prompt needs; put the tokenizer that the model was "
            "trained with beside its config.json, or pass token ids to seedbed.load(...).generate in Python"
        )
    if lm.config.head.labels:
        raise UsageError(
            f"the head of {model} gives labels, not text; run {advice(model, lm.config, lm.tokenizer, {})}"
        )
    return lm


def _from_stdin() -> str:
    """Read the prompt from a pipe, without the newline that a shell appends."""
    if sys.stdin.isatty():
        raise UsageError('no prompt; write seedbed generate MODEL "a prompt", or pipe one in')
    from seedbed.cli.console import read_stdin

    return read_stdin().removesuffix("\n")
