"""`seedbed generate`: completions, and filled blanks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seedbed.cli.options import (
    AllowPickle,
    Device,
    Fill,
    Json,
    NumCandidates,
    given_flags,
    read_settings,
    takes_settings,
)
from seedbed.generation.settings import GenerationSettings, named_settings

if TYPE_CHECKING:
    from seedbed.generation.language_model import Completion, LanguageModel


@takes_settings()
def generate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A bundle's or a run's folder, a .gguf file, package:NAME or org/name.")
    ],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="What is completed; without one, stdin.")
    ] = None,
    *,
    fill: Fill = False,
    num_candidates: NumCandidates = 5,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    json: Json = False,
    **flags: Any,
) -> None:
    """Complete prompts, or fill their blanks; one answer is printed as it comes."""
    from seedbed.base.errors import BundleError, UsageError
    from seedbed.cli.filling import check_flags, fill_blanks
    from seedbed.generation.loading import load

    given = given_flags(context)
    check_flags(given, fill=fill)
    how = read_settings(flags)
    GenerationSettings(**how)  # what cannot be is refused before the model is read
    texts = prompts or [_from_stdin()]
    if how["logprobs"] and not json:
        raise UsageError("--logprobs has no effect without --json; add it")
    lm = load(model, dtype=dtype, device=device, allow_pickle=allow_pickle)
    if lm.tokenizer is None:
        raise BundleError(
            f"{model} has no tokenizer.json, which a prompt in words needs; put the one of its training "
            "beside its config.json, or give token ids to seedbed.load(...).generate in Python"
        )
    if fill:
        limit = how["max_new_tokens"] if "max_new_tokens" in given else None
        fill_blanks(lm, texts, num_candidates, max_new_tokens=limit, json=json)
    else:
        _complete(lm, texts, how, given, json)


def _complete(lm: LanguageModel, texts: list[str], how: dict[str, Any], given: set[str], json: bool) -> None:
    """Print the answers; an encoder-decoder's stand apart from the prompt, which they do not continue."""
    from seedbed.cli.notices import tell_full_context, tell_recommended

    tell_recommended(lm, how, given)
    continues = lm.config.shape == "decoder"
    num_samples = how["num_samples"]
    if len(texts) == 1 and num_samples == 1 and how["num_beams"] == 1 and not json:
        streamed = {
            name: how[name] for name, setting, _ in named_settings() if setting.is_streamed and name in how
        }
        stream = lm.stream(texts[0], **streamed)
        print(texts[0] if continues else "", end="", flush=True)
        for piece in stream:
            print(piece, end="", flush=True)
        print()
        assert stream.completion is not None
        tell_full_context(lm, [stream.completion], how["max_new_tokens"])
        return
    answers = lm.generate(texts, **how)
    several = [answer if num_samples > 1 else [answer] for answer in answers]
    rows = [(prompt, answer) for prompt, of_it in zip(texts, several, strict=True) for answer in of_it]
    if json:
        _print_json(rows)
    else:
        for number, (prompt, answer) in enumerate(rows, 1):
            heading = f"--- {number}\n" if len(rows) > 1 else ""
            before = prompt if continues else f"{prompt}\n" if len(rows) > 1 else ""
            print(f"{heading}{before}{answer.text}")
    tell_full_context(lm, [answer for _, answer in rows], how["max_new_tokens"])


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
