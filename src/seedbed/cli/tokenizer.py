"""`seedbed tokenizer`: train a tokenizer, or inspect one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seedbed.base.errors import UsageError
from seedbed.cli.options import Force, Json

Kind = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Lossless: bpe, characters, words or bytes. As published, with its normalization: wordpiece "
        "(BERT, uncased) or unigram (T5). Default: the family's kind.",
    ),
]
Family = Annotated[
    str | None,
    typer.Option(
        metavar="FAMILY",
        help="Use this family's special tokens: bert, roberta, t5 ... Default: those usual for the kind.",
    ),
]
Objective = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Add the special tokens that this objective needs: masked, causal ... With --inspect: show "
        "the training example that it makes of the text.",
    ),
]


def tokenizer(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="The corpus to train on; with --inspect, the text to encode."),
    ],
    vocab_size: Annotated[
        int, typer.Option(metavar="N", help="Maximum number of tokens in the vocabulary.")
    ] = 4096,
    kind: Kind = None,
    family: Family = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="The output folder.")] = None,
    inspect: Annotated[
        str | None,
        typer.Option("--inspect", metavar="MODEL", help="Show how this model's tokenizer encodes a text."),
    ] = None,
    objective: Objective = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="With --inspect and --objective: the seed of its masking.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a tokenizer, or show how one encodes a text. It trains on the whole corpus."""
    from seedbed.api import tokenizers as api
    from seedbed.cli.console import print_facts, print_json
    from seedbed.cli.waiting import Waiting

    if seed is not None and (inspect is None or objective is None):
        raise UsageError(
            "--seed has no effect without --inspect MODEL and --objective NAME; leave it out, or add these"
        )
    if inspect is not None:
        _inspect(inspect, data, objective, seed=seed or 0, json=json)
        return
    if out is None:
        raise UsageError(
            "missing option --out: give --out FOLDER to train, or --inspect MODEL to inspect one"
        )
    options: dict[str, Any] = {"kind": kind, "family": family, "objective": objective, "force": force}
    with Waiting() as waiting:
        made = api.train_tokenizer_from(
            data, out=out, vocab_size=vocab_size, whole=True, notify=waiting.say, **options
        )
    if json:
        print_json(made)
        return
    requested = "" if made["vocab_size"] == vocab_size else f" ({vocab_size:,} requested)"
    facts = {"vocabulary": f"{made['vocab_size']:,} tokens{requested}", "folder": str(out)}
    print_facts(f"Trained a {made['kind']} tokenizer", facts)


def _inspect(model: str, text: str, objective: str | None, *, seed: int, json: bool) -> None:
    """Print the tokens of a text as a line and as a table, or an objective's training example."""
    from seedbed.api import tokenizers as api
    from seedbed.cli.console import print_json, print_table
    from seedbed.cli.examples import print_tokens, show_examples

    if objective is not None:
        show_examples([api.shown_example(model, text, objective, seed=seed)], json=json)
        return
    tokens = api.inspect(model, text)
    if json:
        rows = [{"id": t.id, "token": t.token, "bytes": t.bytes and t.bytes.hex()} for t in tokens]
        print_json({"text": text, "tokens": rows})
        return
    print_tokens([token.shown for token in tokens])
    print()
    cells = [[str(t.id), repr(t.token), "" if t.bytes is None else t.bytes.hex(" ")] for t in tokens]
    print_table(f"{len(tokens)} tokens", ["id", "token", "bytes"], cells, numbers=[0])
