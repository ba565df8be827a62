"""The whole life cycle on text that Python ships: tokenizer, plans, two networks of one size, completions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seedbed.api.side_by_side import lstm_width, shared_steps, train_all
from seedbed.api.tokenizers import train_tokenizer_from
from seedbed.base.errors import ConfigError
from seedbed.base.files import disk_errors, write_file
from seedbed.base.settings import load_settings
from seedbed.base.signals import StopSignals
from seedbed.generation.loading import load
from seedbed.models.network import parameter_count
from seedbed.report.run_report import write_report
from seedbed.runs.network import configure
from seedbed.runs.settings import ModelSettings, recipe
from seedbed.text.tokenizer import Tokenizer

DATA = "builtin:prose"
VOCAB_SIZE = 2048
PROMPT = "Return a new"
# Of the budget; the rest is for planning, bundles and completions.
TRAINING_SHARE = 0.85
TITLES = {"transformer": "Transformer", "lstm": "LSTM"}
SAMPLED: dict[str, Any] = {"max_new_tokens": 40, "seed": 0}
DECODING: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 1.0, "top_k": 20},
    {"temperature": 1.0, "top_p": 0.9},
)
# Settings that differ from the recipe: each the best of nine settings on builtin:code, 400 steps
# (docs/LOG.md, 2026-11-24).
TUNED: dict[str, list[str]] = {
    "transformer": ["training.matrix_learning_rate=0.04", "training.learning_rate=0.03"],
    "lstm": ["training.matrix_learning_rate=0.04", "training.learning_rate=0.1"],
}


def demo(
    *,
    out: Path | str,
    budget_seconds: float = 150.0,
    callback: Callable[[str], Any] | None = None,
    on_plan: Callable[[str, Any, Any], None] | None = None,
) -> dict[str, Any]:
    """Train a Transformer and an LSTM of one size on the same tokens, and report on both.

    `callback(name)` makes the progress display of a run; `on_plan(name, plan, settings)` is called with its
    plan. The same call resumes an earlier one in the folder `out` that was stopped.
    """
    out = Path(out)
    if budget_seconds < 15:
        raise ConfigError(f"a budget of {budget_seconds:g} s is too short for two networks; give 15s or more")
    started = time.perf_counter()
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    tokenizer = out / "tokenizer"
    with StopSignals():
        if not (tokenizer / "tokenizer.json").exists():
            train_tokenizer_from(DATA, out=tokenizer, vocab_size=VOCAB_SIZE)
        sizes = _equal_sizes(Tokenizer.load(tokenizer).vocab_size)

    def arguments(name: str, steps: int) -> dict[str, Any]:
        every = max(5, steps // 10)
        overrides = [f"model.{key}={value}" for key, value in sizes[name].items()] + TUNED[name]
        overrides += [f"training.{key}_every_steps={every}" for key in ("evaluate", "checkpoint")]
        overrides += ["training.precision=float32"]
        return {"recipe": "fast", "steps": steps, "tokenizer": str(tokenizer), "overrides": overrides}

    with StopSignals():
        left = TRAINING_SHARE * budget_seconds - (time.perf_counter() - started)
        steps = shared_steps(out, DATA, TITLES, arguments, seconds=left, budget_seconds=budget_seconds)
    runs = train_all(out, DATA, sizes, arguments, steps, callback=callback, on_plan=on_plan)
    samples = _samples(out, list(sizes))
    write_file(out / "samples.json", json.dumps(samples, indent=2).encode())
    return {"steps": steps, **runs, "samples": samples["rows"], "report": str(write_report(out))}


def _equal_sizes(vocab_size: int) -> dict[str, dict[str, Any]]:
    """The settings of both networks: the recipe's Transformer, and the LSTM of the nearest size."""
    base = recipe("fast")
    context = base["training"]["context_tokens"]
    model = load_settings(ModelSettings, base["model"])
    target = parameter_count(configure(model, vocab_size=vocab_size, context_tokens=context))
    width = lstm_width(target, num_layers=2, vocab_size=vocab_size)
    return {"transformer": dict(base["model"]), "lstm": {"family": "lstm", "d_model": width, "num_layers": 2}}


def _samples(out: Path, names: list[str]) -> dict[str, Any]:
    """The prompt completed by both networks under every decoding."""
    rows = []
    for name in names:
        model = load(out / "runs" / name)
        for decoding in DECODING:
            answer = model.generate(PROMPT, **SAMPLED, **decoding)
            shown = {"top_k": None, "top_p": None} | decoding
            rows.append({"run": name, **shown, "text": answer.text})
    return {"prompt": PROMPT, **SAMPLED, "rows": rows}
