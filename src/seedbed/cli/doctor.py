"""`seedbed doctor`: what this machine can train; what a folder contains and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from seedbed.cli.options import Json


def doctor(
    folder: Annotated[
        str | None,
        typer.Argument(metavar="PATH", help="A model, run or tokenizer folder, a .gguf file, package:NAME."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure this machine anew instead of using kept figures.")
    ] = False,
    json: Json = False,
) -> None:
    """Inspect this machine, or a model folder. Print what the machine can train, or what is missing."""
    from seedbed.api.doctor import examine_machine
    from seedbed.api.folders import examine_folder
    from seedbed.cli.console import print_json
    from seedbed.cli.waiting import Waiting

    with Waiting("measuring this machine" if folder is None else f"reading and checking {folder}"):
        found = examine_machine(renew=probe) if folder is None else examine_folder(folder)
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

    hardware = found["hardware"]
    missing = [extra for extra, is_installed in found["extras"].items() if not is_installed]
    rates = ", ".join(f"{kind} {rate / 1e9:,.0f}" for kind, rate in hardware["matmul_flops"].items())
    facts = {
        "software": ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        "CPU": f"{hardware['cpu']}, {hardware['instructions']}, {hardware['num_cores']} cores",
        "GPU": ", ".join(hardware["gpus"]) or "none",
        "memory": f"{bytes_text(hardware['memory_bytes'])}, {bytes_text(hardware['available_bytes'])} free",
        "disk": f"{bytes_text(found['disk_free_bytes'])} free in this folder",
        "matmul": f"{rates} GFLOP/s",
        "measured": f"{seconds_text(hardware['age_seconds'])} ago; again with --probe",
        "bandwidth": f"{hardware['read_bytes'] / 1e9:.1f} GB/s read from memory",
        "extras": "all installed",
    }
    if missing:
        facts["extras"] = f"not installed: {', '.join(missing)} (pip install 'seedbed[NAME]')"
    print_facts("This machine", facts)
    print()
    fitting = sorted((row for row in found["presets"] if row["fits"]), key=lambda row: row["parameters"])
    rows = []
    for row in fitting:
        size, time = bytes_text(row["state_bytes"]), seconds_text(row["seconds"])
        rows.append([row["model"], count_text(row["parameters"]), size, time])
    columns = ["model", "parameters", "state", "time"]
    print_table("Models whose training state fits in memory", columns, rows, numbers=range(1, 4))
    notes = {
        "state": "weights, gradients and optimizer state in float32; activations are not included",
        "time": "estimate: 20 tokens per parameter at the speed of seedbed plan gpt2:124m; "
        "seedbed plan MODEL is more exact",
        "too large": f"{len(found['presets']) - len(fitting)} of {len(found['presets'])} presets",
    }
    print_facts("", notes)


def _show_folder(found: Mapping[str, Any]) -> None:
    from seedbed.cli.console import print_facts

    article = "an" if found["kind"][0] in "aeiou" else "a"
    print_facts(f"{found['folder']}: {article} {found['kind']}", dict(found["holds"]))
    if found["lacks"]:
        print_facts("Missing", dict(found["lacks"]))
    if found["problems"]:  # damaged or not supported
        print_facts("It does not load", {str(n): text for n, text in enumerate(found["problems"], 1)})
    if found["next"]:
        print_facts("", {"next": found["next"]})
