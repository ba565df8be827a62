"""`seedbed generate`: completions."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from seedbed.cli.options import Device, Json


def generate(
    model: Annotated[str, typer.Argument(help="A bundle's or a run's folder.")],
    prompt: Annotated[str, typer.Argument(help="What is completed.")],
    max_new_tokens: Annotated[int, typer.Option(help="The most tokens of an answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy, 1 the model's own distribution.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the likeliest that hold this much.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text. Repeat for more.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    num_samples: Annotated[int, typer.Option(help="Answers to draw.")] = 1,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Complete a prompt; one answer is printed as it comes."""
    from dataclasses import asdict

    from seedbed.api.models import load
    from seedbed.cli.console import print_json

    lm = load(model, device="cpu" if device == "auto" else device)
    chosen: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "stop": stop or (),
        "seed": seed,
    }
    if num_samples == 1 and not json:
        print(prompt, end="", flush=True)
        for piece in lm.stream(prompt, max_new_tokens=max_new_tokens, **chosen):
            print(piece, end="", flush=True)
        print()
        return
    answers = lm.generate(prompt, max_new_tokens=max_new_tokens, num_samples=num_samples, **chosen)
    answers = answers if isinstance(answers, list) else [answers]
    if json:
        print_json({"prompt": prompt, "completions": [asdict(answer) for answer in answers]})
        return
    for i, answer in enumerate(answers, 1):
        sys.stdout.write(f"[{i}] {prompt}{answer.text}\n")
