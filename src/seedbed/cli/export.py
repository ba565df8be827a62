"""`seedbed export`: a model in the format that other tools read."""

from __future__ import annotations

from typing import Annotated

import typer

from seedbed.cli.options import AllowPickle, Device, Json, Out


def export(
    model: Annotated[
        str,
        typer.Argument(help="A bundle's or a run's folder, a .gguf file, package:NAME or org/name."),
    ],
    out: Out,
    format: Annotated[str, typer.Option(help="bundle: the folder that transformers loads.")] = "bundle",
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; without it, as the weights are.")
    ] = None,
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Write a model for other tools, load it again and compare its logits."""
    from seedbed.api.export import export as write
    from seedbed.base.units import bytes_text, count_text
    from seedbed.cli.console import print_facts, print_json

    made = write(model, out=out, format=format, dtype=dtype, device=device, allow_pickle=allow_pickle)
    if json:
        print_json(made)
        return
    print_facts(
        f"Exported {model}",
        {
            "folder": made["folder"],
            "model": f"{made['family']}, {count_text(made['parameters'])} parameters in {made['dtype']}",
            "files": ", ".join(made["files"]),
            "size": bytes_text(made["bytes"]),
            "next": made["next"],
        },
    )
