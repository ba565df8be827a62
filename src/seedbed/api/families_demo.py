"""One small network of each architecture on the same text, and its scores on the same tasks."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seedbed.api.side_by_side import lstm_width, shared_steps, train_all
from seedbed.api.tokenizers import train_tokenizer_from
from seedbed.base.errors import ConfigError
from seedbed.base.files import disk_errors, write_file
from seedbed.base.signals import StopSignals
from seedbed.data.settings import DataSettings
from seedbed.evaluation.family_tasks import NUM_WINDOWS, baselines, gather, measure
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load
from seedbed.models.network import family, parameter_count
from seedbed.report.run_report import write_report
from seedbed.runs.network import configure
from seedbed.runs.settings import ModelSettings, recipe
from seedbed.runs.start import run_settings

DATA = "builtin:code"
NUM_TOKENS, CONTEXT = 2048, 128
# Of the budget; the rest is for the tokenizers and the tasks.
TRAINING_SHARE = 0.75
LEAST_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of network, as `families.toml` describes it."""

    title: str
    architecture: str
    sees: str
    good_at: str
    num_layers: int
    task: str
    given: str
    settings: Sequence[str] = ()


_FILE = Path(__file__).with_name("families.toml")
KINDS = {name: Kind(**kind) for name, kind in tomllib.loads(_FILE.read_text(encoding="utf-8")).items()}


def families_demo(
    *,
    out: Path | str,
    budget_seconds: float = 600.0,
    callback: Callable[[str], Any] | None = None,
    on_plan: Callable[[str, Any, Any], None] | None = None,
) -> dict[str, Any]:
    """Train a network of each kind, measure all on the same tasks, and write the report.

    All train on the same text for the same number of steps, with the recipe `fast` and the settings of their
    kind. The arguments are those of `demo`; the same call resumes an earlier one in the folder `out`.
    """
    out = Path(out)
    if budget_seconds < LEAST_SECONDS:
        raise ConfigError(
            f"a budget of {budget_seconds:g} s is too short for {len(KINDS)} networks; give "
            f"{LEAST_SECONDS:g}s or more"
        )
    started = time.perf_counter()
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with StopSignals():
        _tokenizers(out)
        arguments = partial(_arguments, out, _widths())
        titles = {name: kind.title for name, kind in KINDS.items()}
        left = TRAINING_SHARE * budget_seconds - (time.perf_counter() - started)
        steps = shared_steps(out, DATA, titles, arguments, seconds=left, budget_seconds=budget_seconds)
    results = train_all(out, DATA, KINDS, arguments, steps, callback=callback, on_plan=on_plan)
    settings, _ = run_settings(DATA, **arguments("bert", steps))
    with StopSignals():
        found = _measure(out, results, settings.data, tokens=steps * settings.training.batch_tokens)
    write_file(out / "families.json", json.dumps(found, indent=2).encode())
    return {"steps": steps, "runs": results, "families": found, "report": str(write_report(out))}


def _tokenizers(out: Path) -> None:
    """One kind of tokenizer for all: the same vocabulary, and each family's own special tokens."""
    for name in KINDS:
        folder = out / "tokenizers" / name
        if not (folder / "tokenizer.json").exists():
            vocab_size = NUM_TOKENS + family(name).special.num_tokens
            train_tokenizer_from(DATA, out=folder, kind="bpe", family=name, vocab_size=vocab_size)


def _arguments(out: Path, widths: Mapping[str, int], name: str, steps: int) -> dict[str, Any]:
    """A run's arguments for `pretrain`."""
    every = max(5, -(-steps // 3))
    overrides = [f"model.num_layers={KINDS[name].num_layers}", f"model.d_model={widths[name]}"]
    overrides += [f"training.context_tokens={CONTEXT}", *KINDS[name].settings]
    overrides += [f"training.{key}_every_steps={every}" for key in ("evaluate", "checkpoint")]
    kept = {"recipe": "fast", "family": name, "steps": steps}
    return kept | {"tokenizer": str(out / "tokenizers" / name), "overrides": overrides}


def _widths() -> dict[str, int]:
    """The width of each network: the recipe's, and for the LSTM that of GPT-2's number of parameters."""
    width = int(recipe("fast")["model"]["d_model"])
    gpt2 = ModelSettings(family="gpt2", d_model=width, num_layers=KINDS["gpt2"].num_layers)
    target = parameter_count(configure(gpt2, vocab_size=NUM_TOKENS, context_tokens=CONTEXT))
    lstm = lstm_width(target, num_layers=KINDS["lstm"].num_layers, vocab_size=NUM_TOKENS)
    return dict.fromkeys(KINDS, width) | {"lstm": lstm}


def _measure(
    out: Path, results: dict[str, dict[str, Any]], data: DataSettings, *, tokens: int
) -> dict[str, Any]:
    """The content of `families.json`: each network with its scores and its example."""
    tasks = gather(data)
    models = []
    found: dict[str, Any] = {"data": DATA, "tokens": tokens, "num_windows": NUM_WINDOWS}
    found |= {f"num_{probe.name}": [len(side) for side in probe.sides] for probe in tasks.probes}
    for name, kind in KINDS.items():
        lm = load(out / "runs" / name)
        scores = measure(lm, tasks)
        scores["bits_per_byte"] = results[name]["metrics"]["bits_per_byte"]
        models.append(
            {
                "run": name,
                "title": kind.title,
                "architecture": kind.architecture,
                "sees": kind.sees,
                "objective": family(name).objective,
                "good_at": kind.good_at,
                "parameters": parameter_count(lm.config),
                "scores": scores,
                "example": {"task": kind.task, "given": kind.given, "answer": _answer(lm, kind)},
            }
        )
        if name == "bert":
            found["baselines"] = baselines(lm, tasks)
    return found | {"models": models}


def _answer(lm: LanguageModel, kind: Kind) -> str:
    """The text with its blank filled, or with its continuation."""
    if kind.task == "fill the blank":
        return str(lm.fill(kind.given).text)
    return kind.given + str(lm.generate(kind.given, 24, temperature=0.0).text)
