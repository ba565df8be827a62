"""`seedbed generate`: completions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seedbed.cli.options import AllowPickle, Device, Json

if TYPE_CHECKING:
    from seedbed.generation.language_model import Completion


def generate(
    model: Annotated[
        str, typer.Argument(help="A bundle's or a run's folder, a .gguf file, package:NAME or org/name.")
    ],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="What is completed; without one, stdin.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="The most tokens of an answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy, 1 the model's own distribution.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the likeliest that hold this much.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text. Repeat for more.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    num_samples: Annotated[int, typer.Option(help="Answers to draw for each prompt.")] = 1,
    logprobs: Annotated[
        int, typer.Option(help="With --json: logarithms of probabilities, of the n likeliest tokens too.")
    ] = 0,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Complete prompts; one answer is printed as it comes."""
    from seedbed.api.models import load
    from seedbed.base.errors import BundleError, UsageError

    texts = prompts or [_from_stdin()]
    if logprobs and not json:
        raise UsageError("--logprobs has no effect without --json; add it")
    lm = load(model, dtype=dtype, device=device, allow_pickle=allow_pickle)
    if lm.tokenizer is None:
        raise BundleError(
            f"{model} has no tokenizer.json, which a prompt in words needs; put the one of its training "
            "beside its config.json, or give token ids to seedbed.load(...).generate in Python"
        )
    how: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "stop": stop or (),
        "seed": seed,
    }
    if len(texts) == 1 and num_samples == 1 and not json:
        pieces = lm.stream(texts[0], max_new_tokens, **how)
        print(texts[0], end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    answers = lm.generate(texts, max_new_tokens, num_samples=num_samples, logprobs=logprobs, **how)
    several = [answer if isinstance(answer, list) else [answer] for answer in answers]
    rows = [(prompt, answer) for prompt, of_it in zip(texts, several, strict=True) for answer in of_it]
    if json:
        _print_json(rows)
        return
    for number, (prompt, answer) in enumerate(rows, 1):
        print(f"--- {number}\n{prompt}{answer.text}")


def _print_json(rows: list[tuple[str, Completion]]) -> None:
    """Print all that the completions are, what was not asked for left out."""
    from dataclasses import asdict

    from seedbed.cli.console import print_json

    said = [
        {"prompt": prompt} | {key: value for key, value in asdict(answer).items() if value is not None}
        for prompt, answer in rows
    ]
    print_json({"completions": said})


def _from_stdin() -> str:
    """The prompt that comes through a pipe, without the line's end that a shell adds."""
    from seedbed.base.errors import UsageError

    if sys.stdin.isatty():
        raise UsageError('no prompt; write seedbed generate MODEL "a prompt", or send one through a pipe')
    return sys.stdin.read().removesuffix("\n")
