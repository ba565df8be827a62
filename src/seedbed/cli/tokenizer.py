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
            help="Whose control tokens it has: bert, roberta, t5 ... By default those that go with the kind.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    inspect: Annotated[
        str | None, typer.Option("--inspect", metavar="MODEL", help="Show its tokens.")
    ] = None,
    json: Json = False,
) -> None:
    """Train a tokenizer on all of a corpus, or show how a model's tokenizer cuts a text."""
    from seedbed.api import tokenizers as api
    from seedbed.base.errors import UsageError
    from seedbed.cli.console import print_facts, print_json, print_table

    if inspect is not None:
        pieces = api.inspect(inspect, data)
        if json:
            tokens = [{"id": p.id, "token": p.token, "bytes": p.bytes and p.bytes.hex()} for p in pieces]
            print_json({"text": data, "tokens": tokens})
            return
        rows = [[str(p.id), repr(p.token), "" if p.bytes is None else p.bytes.hex(" ")] for p in pieces]
        print_table(f"{len(pieces)} tokens", ["id", "token", "bytes"], rows, numbers=[0])
        return
    if out is None:
        raise UsageError("where shall the tokenizer go? give --out FOLDER, or --inspect MODEL to look at one")
    made = api.train_tokenizer_from(
        data, out=out, kind=kind, family=family, vocab_size=vocab_size, whole=True
    )
    if json:
        print_json(made)
        return
    kept = f"{made['vocab_size']:,} tokens" + (
        "" if made["vocab_size"] == vocab_size else f" ({vocab_size:,} asked for)"
    )
    print_facts(f"A {made['kind']} tokenizer", {"vocabulary": kept, "folder": str(out)})
