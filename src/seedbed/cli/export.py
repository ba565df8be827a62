"""`seedbed export`: a model in a format of other tools."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seedbed.cli.options import MODEL_HELP, AllowPickle, Device, Force, Json, Out


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    out: Out,
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="bundle: a folder that transformers loads.")
    ] = "bundle",
    dtype: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="float32, bfloat16 or float16; default: that of the weights."),
    ] = None,
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Export a model for other tools; an adapter is merged into its base.

    The result is loaded again and its logits are compared.
    """
    from seedbed.api.export import export as write
    from seedbed.base.units import bytes_text, count_text
    from seedbed.cli.console import print_facts, print_json
    from seedbed.cli.waiting import Waiting

    options: dict[str, Any] = {"dtype": dtype, "device": device, "allow_pickle": allow_pickle, "force": force}
    with Waiting(f"loading {model}, writing it and comparing what was written"):
        made = write(model, out=out, format=format, **options)
    if json:
        print_json(made)
        return
    facts = {
        "folder": made["folder"],
        "model": f"{made['family']}, {count_text(made['parameters'])} parameters in {made['dtype']}",
        "merged": made["merged_into"] and f"the adapter, into its base {made['merged_into']}",
        "files": ", ".join(made["files"]),
        "size": bytes_text(made["bytes"]),
        "checked": "loaded again, with equal logits",
        "next": made["next"],
    }
    print_facts(f"Exported {model}", facts)
