"""`seedbed predict`: answers to the records of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli.options import Json

Made = Annotated[
    str,
    typer.Argument(
        metavar="SOLUTION_OR_RUN",
        help="What `evaluate --save` left, or a run or bundle with labels or trained on answers.",
    ),
]
Data = Annotated[
    Path, typer.Argument(metavar="FILE", help="Records in any form: JSON Lines, CSV, CoNLL, a text's lines.")
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The answers. Default: FILE's name with .predictions.jsonl."),
]
Input = Annotated[
    str | None, typer.Option(metavar="FIELD", help="The field with the text. Default: the solution's.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file of answers.")]


def predict(
    made: Made,
    data: Data,
    *,
    out: Out = None,
    input: Input = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Answer every record of a file: JSON Lines of the records with prediction and score.

    The same command continues after an interruption. A record that cannot be answered has an error instead.
    """
    from seedbed.api.predict import predict as predict_file
    from seedbed.cli.answering import Answers
    from seedbed.cli.console import print_facts, print_json

    target = out if out is not None else Path(f"{data.name.split('.')[0] or 'data'}.predictions.jsonl")
    with Answers(f"loading {made}") as progress:
        found = predict_file(made, data, out=target, force=force, input=input, callback=progress.show)
    if json:
        print_json(found)
    else:
        failed = found["num_failed"]
        facts: dict[str, str | None] = {"answered": f"{found['num_records'] - failed:,} records"}
        facts["without an answer"] = f"{failed:,}, see their `error`" if failed else None
        print_facts("", facts | {"predictions": found["out"]})
