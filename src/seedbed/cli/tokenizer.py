"""`seedbed tokenizer`: train one, or see what one does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli.options import Json


def tokenizer(
    data: Annotated[str, typer.Argument(help="A corpus; with --inspect, the text to cut.")],
    vocab_size: Annotated[int, typer.Option(help="The most tokens it may have.")] = 4096,
    kind: Annotated[
        str | None,
        typer.Option(
            help="bpe, characters, words or bytes, which lose nothing; wordpiece, BERT's uncased; unigram, "
            "T5's. By default the family's.",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            help="Whose special tokens it has: bert, roberta, t5 ... By default those that go with the kind.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    inspect: Annotated[
        str | None, typer.Option("--inspect", metavar="MODEL", help="Show its tokens.")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Train one for a run with this objective: with its special tokens beside the family's. With "
            "--inspect: show what it makes of the text; masked, causal ...",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="With --inspect and --objective: another seed masks other tokens.")
    ] = None,
    json: Json = False,
) -> None:
    """Train a tokenizer on all of a corpus, or show how a model's tokenizer cuts a text."""
    from seedbed.api import tokenizers as api
    from seedbed.base.errors import UsageError
    from seedbed.cli.console import print_facts, print_json

    if seed is not None and (inspect is None or objective is None):
        raise UsageError(
            "--seed has no effect without --inspect MODEL and --objective NAME; leave it out, or add these"
        )
    if inspect is not None:
        _inspect(inspect, data, objective, seed=seed or 0, json=json)
        return
    if out is None:
        raise UsageError("where shall the tokenizer go? give --out FOLDER, or --inspect MODEL to look at one")
    made = api.train_tokenizer_from(
        data, out=out, kind=kind, family=family, objective=objective, vocab_size=vocab_size, whole=True
    )
    if json:
        print_json(made)
        return
    kept = f"{made['vocab_size']:,} tokens" + (
        "" if made["vocab_size"] == vocab_size else f" ({vocab_size:,} asked for)"
    )
    print_facts(f"A {made['kind']} tokenizer", {"vocabulary": kept, "folder": str(out)})


def _inspect(model: str, text: str, objective: str | None, *, seed: int, json: bool) -> None:
    """Print a text in its tokens and a table of them, or what an objective makes of it."""
    from seedbed.api import tokenizers as api
    from seedbed.cli.console import print_json, print_table
    from seedbed.cli.examples import print_tokens, show_examples

    if objective is not None:
        show_examples([api.shown_example(model, text, objective, seed=seed)], json=json)
        return
    pieces = api.inspect(model, text)
    if json:
        tokens = [{"id": p.id, "token": p.token, "bytes": p.bytes and p.bytes.hex()} for p in pieces]
        print_json({"text": text, "tokens": tokens})
        return
    print_tokens(api.shown_tokens(model, text))
    print()
    rows = [[str(p.id), repr(p.token), "" if p.bytes is None else p.bytes.hex(" ")] for p in pieces]
    print_table(f"{len(pieces)} tokens", ["id", "token", "bytes"], rows, numbers=[0])
