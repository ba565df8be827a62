"""What this machine has and can train; what a folder holds and lacks."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from seedbed import __version__
from seedbed.base.errors import SeedbedError, UsageError
from seedbed.base.hardware import Hardware, disk_free_bytes, probe
from seedbed.hub.bundle import CARD, CONFIG, GENERATION, open_bundle
from seedbed.hub.weight_files import SINGLE as WEIGHTS
from seedbed.models.family import Config
from seedbed.models.network import FAMILIES, family, parameter_count
from seedbed.report.run_files import is_run, read_run
from seedbed.select.plan import forward_flops_per_token
from seedbed.text.tokenizer import Tokenizer
from seedbed.training.checkpoints import Checkpoints, verify

# Optional libraries, by the extra of the package that brings them.
EXTRAS = {
    "data": "pyarrow",
    "report": "matplotlib",
    "track": "tensorboard",
    "hub": "sentencepiece",
    "harness": "lm_eval",
}
# Weights, gradients and AdamW's two moments in float32; activations come on top.
STATE_BYTES = 16
# What a training step reaches of the measured float32 products, and the tokens a parameter of Hoffmann et al.
# 2022 (table 3): an estimate to a factor of two or so, before `seedbed plan` looks closer.
USUAL_PEAK_FRACTION, TOKENS_PER_PARAMETER = 0.4, 20


def examine_machine() -> dict[str, Any]:
    """This machine: what it is, what the probe measured, which extras it has, which presets it can train."""
    found = probe()
    return {
        "versions": {
            "seedbed": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
        "hardware": found.to_dict() | {"precision": found.precision},
        "disk_free_bytes": disk_free_bytes(Path()),
        "extras": {extra: find_spec(module) is not None for extra, module in EXTRAS.items()},
        "presets": [
            _trainable(f"{name}:{size}", config, found)
            for name in FAMILIES.names()
            for size, config in family(name).presets.items()
        ],
    }


def _trainable(name: str, config: Config, hardware: Hardware) -> dict[str, Any]:
    """Whether a preset's training state fits in the free memory, and about how long its training takes.

    The time is for 20 tokens a parameter on the CPU.
    """
    parameters = parameter_count(config)
    state_bytes = STATE_BYTES * parameters
    flops = 3 * forward_flops_per_token(config, min(config.max_positions or 1024, 1024))
    rate = USUAL_PEAK_FRACTION * hardware.matmul_flops["float32"] / flops
    return {
        "model": name,
        "parameters": parameters,
        "state_bytes": state_bytes,
        "fits": state_bytes < hardware.available_bytes,
        "tokens_per_second": rate,
        "seconds": TOKENS_PER_PARAMETER * parameters / rate,
    }


def examine_folder(folder: Path) -> dict[str, Any]:
    """A folder: its kind, what it holds, what it lacks and what to do about it, what is damaged."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give a model's, a run's, a tokenizer's or a demo's")
    if is_run(folder):
        return {"folder": str(folder), "kind": "run"} | _run(folder)
    if (folder / CONFIG).exists() or (folder / WEIGHTS).exists():
        return {"folder": str(folder), "kind": "bundle"} | _bundle(folder)
    if (folder / "tokenizer.json").exists():
        return {"folder": str(folder), "kind": "tokenizer"} | _tokenizer(folder)
    inner = folder / "runs" if (folder / "runs").is_dir() else folder
    runs = [path for path in sorted(inner.iterdir()) if path.is_dir() and is_run(path)]
    if not runs:
        raise UsageError(
            f"{folder} holds nothing of seedbed's: no {CONFIG}, settings.toml, tokenizer.json or runs; make "
            "some with `seedbed demo` or `seedbed pretrain`"
        )
    return {"folder": str(folder), "kind": "project"} | _project(folder, runs)


def _bundle(folder: Path) -> dict[str, Any]:
    """A bundle, its weights read."""
    absent = {
        "tokenizer.json": "token ids work, text does not: put the tokenizer of the training here",
        GENERATION: "answers end at the tokenizer's own end token",
        CARD: "nothing says where the model comes from",
    }
    found: dict[str, Any] = {"holds": {}, "lacks": {}, "problems": []}
    found["lacks"] = {name: remark for name, remark in absent.items() if not (folder / name).exists()}
    try:
        module, tokenizer, _ = open_bundle(folder)
    except SeedbedError as error:
        return found | {"problems": [str(error)]}
    config = module.config
    weights = dict(module.named_parameters())
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    found["problems"] += [f"the weights {', '.join(broken[:3])} are not finite"] if broken else []
    context = "any length" if config.max_positions is None else f"{config.max_positions:,} tokens of context"
    found["holds"] = {
        "model": f"{config.family}, {config.num_layers} layers x {config.d_model}, {context}",
        "parameters": f"{sum(tensor.numel() for tensor in weights.values()):,}",
    }
    if tokenizer is not None:
        found["holds"]["tokenizer"] = f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens"
    return found


def _tokenizer(folder: Path) -> dict[str, Any]:
    """A tokenizer without a model."""
    try:
        tokenizer = Tokenizer.load(folder)
    except SeedbedError as error:
        return {"holds": {}, "lacks": {}, "problems": [str(error)]}
    holds = {"tokenizer": f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens"}
    lacks = {CONFIG: f"a model: seedbed pretrain DATA --tokenizer {folder} --out RUN"}
    if tokenizer.eos_id is None:
        lacks["end token"] = "answers end at their length alone"
    return {"holds": holds, "lacks": lacks, "problems": []}


def _run(folder: Path) -> dict[str, Any]:
    """A run: how far it came, its checkpoints verified, its model."""
    files, checkpoints = read_run(folder), Checkpoints(folder / "checkpoints")
    checked = (verify(checkpoints.folder / f"{step:06d}") for step in checkpoints.steps())
    problems = [problem for problem in checked if problem]
    holds: dict[str, Any] = {"steps": f"{files.last_step:,} of {files.num_steps or 0:,}"}
    if checkpoints.steps():
        holds["checkpoints"] = "after step " + ", ".join(f"{step:,}" for step in checkpoints.steps())
    score = files.score(files.unit())
    if score is not None:
        holds["held-out"] = f"{score.value:.3f} {files.unit()} after step {score.step:,}"
    lacks = {}
    if (folder / "model").is_dir():
        model = _bundle(folder / "model")
        holds |= model["holds"]
        problems += model["problems"]
    else:
        lacks["model/"] = "the run is not finished: give its `seedbed pretrain` command again"
    if not (folder / "report.html").exists():
        lacks["report.html"] = f"seedbed report {folder}"
    return {"holds": holds, "lacks": lacks, "problems": problems}


def _project(folder: Path, runs: list[Path]) -> dict[str, Any]:
    """A folder of runs, the demo's for one."""
    each = {path.name: _run(path) for path in runs}
    return {
        "holds": {name: f"{run['holds']['steps']} steps" for name, run in each.items()},
        "lacks": {
            f"{name}/{part}": what for name, run in each.items() for part, what in run["lacks"].items()
        },
        "problems": [f"{name}: {problem}" for name, run in each.items() for problem in run["problems"]],
    }
