"""`seedbed doctor`: what this machine has and can train; what a folder holds and lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli.options import Json


def doctor(
    folder: Annotated[Path | None, typer.Argument(help="A bundle's or a run's folder to look into.")] = None,
    json: Json = False,
) -> None:
    """Say what this machine has and can train, or what a folder holds and lacks."""
    from seedbed.cli.console import print_facts, print_json

    title, facts = _folder(folder) if folder is not None else _machine()
    if json:
        print_json(facts)
    else:
        print_facts(title, {name: str(value) for name, value in facts.items()})


def _machine() -> tuple[str, dict[str, object]]:
    import torch

    from seedbed.base.hardware import disk_free_bytes, probe
    from seedbed.report.units import bytes_text

    found = probe()
    rates = {name: f"{rate / 1e9:,.0f} GFLOP/s" for name, rate in found.matmul_flops.items()}
    trainable = int(0.8 * found.available_bytes / 16)  # weights, gradients and two moments of 4 bytes each
    return "This machine", {
        "cpu": f"{found.cpu}, {found.instructions}, {found.num_cores} cores",
        "gpus": ", ".join(found.gpus) or "none",
        "memory": f"{bytes_text(found.memory_bytes)}, {bytes_text(found.available_bytes)} free",
        "disk": f"{bytes_text(disk_free_bytes(Path()))} free here",
        "torch": f"{torch.__version__}, {found.num_threads} threads",
        "float32": rates["float32"],
        "bfloat16": rates["bfloat16"],
        "reads": f"{found.read_bytes / 1e9:.1f} GB/s",
        "can hold": f"about {trainable / 1e6:,.0f} million parameters in training, activations apart",
    }


def _folder(folder: Path) -> tuple[str, dict[str, object]]:
    from seedbed.api.models import bundle_folder
    from seedbed.hub.bundle import open_bundle

    path = bundle_folder(folder)
    module, tokenizer, generation = open_bundle(path)
    config = module.config
    return f"A {config.family} model", {
        "folder": path,
        "parameters": f"{sum(p.numel() for p in module.parameters()):,}",
        "size": f"{config.num_layers} layers x {config.d_model}, {config.vocab_size:,} tokens",
        "context": config.max_positions or "unlimited",
        "tokenizer": f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens"
        if tokenizer
        else "none: token ids alone",
        "generation": generation or "no settings of its own",
        "finite": all(bool(p.isfinite().all()) for p in module.parameters()),
    }
