"""What this machine can train: hardware, installed extras, and the cost of each preset."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

from seedbed import __version__
from seedbed.api.plan import plan
from seedbed.base.hardware import Hardware, disk_free_bytes, probe
from seedbed.models.family import Config
from seedbed.models.network import FAMILIES, build, family, parameter_count
from seedbed.select.compute import forward_flops

# Weights, gradients and AdamW's two moments in float32; activations come on top.
STATE_BYTES = 16
# The tokens per parameter of Hoffmann et al. 2022 (table 3), and a preset whose plan has the speed.
TOKENS_PER_PARAMETER, PLANNED = 20, "gpt2:124m"


def examine_machine(*, renew: bool = False) -> dict[str, Any]:
    """Return the hardware, its measured rates, the installed extras and the presets with their costs.

    The rates are those that are kept on disk, unless it is to `renew` them.
    """
    if renew:
        probe(renew=True)
    found, planned = probe(), plan(PLANNED)
    speed = planned.flops / planned.num_steps / planned.step_seconds
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return {
        "versions": {"seedbed": __version__} | versions,
        "hardware": found.to_dict(),
        "disk_free_bytes": disk_free_bytes(Path()),
        "extras": installed_extras(),
        "presets": [
            _trainable(f"{name}:{size}", config, found, speed)
            for name in FAMILIES.names()
            for size, config in family(name).presets.items()
        ],
    }


def installed_extras() -> dict[str, bool]:
    """Return the extras that the package declares, and whether all libraries of each are installed."""
    found: dict[str, bool] = {}
    for requirement in requires("seedbed") or []:
        name, _, marker = requirement.partition(";")
        if extra := re.search(r"""extra == ["']([^"']+)""", marker):
            library = re.split(r"[^A-Za-z0-9._-]", name.strip(), maxsplit=1)[0]
            found[extra[1]] = found.get(extra[1], True) and _is_installed(library)
    return dict(sorted(found.items()))


def _is_installed(library: str) -> bool:
    try:
        return bool(version(library))
    except PackageNotFoundError:
        return False


def _trainable(name: str, config: Config, hardware: Hardware, speed: float) -> dict[str, Any]:
    """Return whether a preset's training state fits in the free memory, and its time at so many FLOP/s."""
    parameters = parameter_count(config)
    state_bytes = STATE_BYTES * parameters
    row_tokens = min(config.max_positions or 1024, 1024)
    flops = 3 * sum(forward_flops(build(config, "meta"), row_tokens=row_tokens).values())
    rate = speed / flops
    return {
        "model": name,
        "parameters": parameters,
        "state_bytes": state_bytes,
        "fits": state_bytes < hardware.available_bytes,
        "tokens_per_second": rate,
        "seconds": TOKENS_PER_PARAMETER * parameters / rate,
    }
