"""The flags that several verbs share, and how the words in them are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_seconds(text: str | float) -> float:
    """Read a duration: `90`, `90s`, `10m`, `1.5h`; typer sends a flag's default, a number, through it too."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip())
    if not match or float(match[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 10m or 1.5h.")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def given_flags(context: typer.Context) -> set[str]:
    """The parameters that the user wrote, those with their default's value too."""
    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    return {name for name, source in sources if source is not None and source.name == "COMMANDLINE"}


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Out = Annotated[Path, typer.Option("--out", help="The folder to write.", show_default=False)]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget", metavar="TIME", parser=parse_seconds, help="The time it may take: 60s, 10m, 1h."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting by its key: training.seed=1. Repeat for more."
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:N or mps; auto takes a GPU if there is one.")
]
NumBeams = Annotated[
    int, typer.Option(help="Search with so many beams instead of drawing; --num-samples prints the best.")
]
LengthPenalty = Annotated[
    float, typer.Option(help="With beams: above 0 favours long answers, below 0 short ones.")
]
EarlyStop = Annotated[
    Literal["true", "false", "never"],
    typer.Option(
        "--early-stopping",
        metavar="WHEN",
        help="With beams: end once as many answers are found (true), when no beam is better as it stands "
        "(false), or when none can become better (never).",
    ),
]
Fill = Annotated[bool, typer.Option("--fill", help="Fill the blanks ___ of each prompt.")]
NumCandidates = Annotated[int, typer.Option(help="With --fill: candidates shown for each blank.")]
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read pytorch_model.bin if there is no safetensors; tensors alone."),
]
Show = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Print the run's first N examples, what is read and what must be predicted, and train "
        "nothing. The tokenizer and the shards stay in --out, and the run goes on with them.",
    ),
]
