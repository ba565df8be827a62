"""`seedbed doctor`: what this machine has and can train; what a folder holds and lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from seedbed.cli.options import Json


def doctor(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH", help="A model's, a run's or a tokenizer's folder, a .gguf file, package:NAME."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say what this machine has and can train, or what a folder holds and lacks."""
    from seedbed.api.doctor import examine_machine
    from seedbed.api.folders import examine_folder
    from seedbed.cli.console import print_json

    found = examine_machine() if folder is None else examine_folder(folder)
    if json:
        print_json(found)
    elif folder is None:
        _show_machine(found)
    else:
        _show_folder(found)
    if found.get("problems"):
        raise typer.Exit(1)


def _show_machine(found: Mapping[str, Any]) -> None:
    from seedbed.base.units import bytes_text, count_text, seconds_text
    from seedbed.cli.console import print_facts, print_table

    hardware, versions = found["hardware"], found["versions"]
    missing = [extra for extra, there in found["extras"].items() if not there]
    facts = {
        "software": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "cpu": f"{hardware['cpu']}, {hardware['instructions']}, {hardware['num_cores']} cores",
        "gpus": ", ".join(hardware["gpus"]) or "none",
        "memory": f"{bytes_text(hardware['memory_bytes'])}, {bytes_text(hardware['available_bytes'])} free",
        "disk": f"{bytes_text(found['disk_free_bytes'])} free here",
        "matmuls": ", ".join(f"{kind} {rate / 1e9:,.0f}" for kind, rate in hardware["matmul_flops"].items())
        + " GFLOP/s",
        "reads": f"{hardware['read_bytes'] / 1e9:.1f} GB/s",
        "extras": f"without {', '.join(missing)}: pip install 'seedbed[NAME]'" if missing else "all there",
    }
    print_facts("This machine", facts)
    held = [row for row in found["presets"] if row["fits"]]
    rows = []
    for row in sorted(held, key=lambda row: row["parameters"]):
        days = row["seconds"] / 86400
        time = seconds_text(row["seconds"]) if days < 2 else f"{days:,.0f} days"
        rows.append([row["model"], count_text(row["parameters"]), bytes_text(row["state_bytes"]), time])
    columns = ["model", "parameters", "state", "time"]
    print_table("What fits in memory", columns, rows, numbers=range(1, 4))
    print_facts(
        "",
        {
            "state": "weights, gradients and two moments; activations come on top",
            "time": "about, for 20 tokens a parameter at 40% of the float32 products' speed; "
            "seedbed plan MODEL looks closer",
            "too large": f"{len(found['presets']) - len(held)} of {len(found['presets'])} presets",
        },
    )


def _show_folder(found: Mapping[str, Any]) -> None:
    from seedbed.cli.console import print_facts

    article = "an" if found["kind"][0] in "aeiou" else "a"
    print_facts(f"{found['folder']}: {article} {found['kind']}", dict(found["holds"]))
    if found["lacks"]:
        print_facts("It lacks", dict(found["lacks"]))
    if found["problems"]:  # damage, or what is not supported
        print_facts(
            "It does not load", {str(number): text for number, text in enumerate(found["problems"], 1)}
        )
    if found["next"]:
        print_facts("", {"next": found["next"]})
