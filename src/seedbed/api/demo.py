"""The whole life cycle on text that Python ships: tokenizer, plan, two networks of one size, completions,
report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from seedbed.api.models import configure, load
from seedbed.api.pretrain import pretrain
from seedbed.api.recipes import recipe
from seedbed.api.run_settings import ModelSettings
from seedbed.api.tokenizers import train_tokenizer_from
from seedbed.base.errors import ConfigError
from seedbed.base.files import write_file
from seedbed.base.runtime import Runtime
from seedbed.base.settings import load_settings
from seedbed.models.network import family, parameter_count
from seedbed.report.run_report import write_report
from seedbed.select.measure import step_at_depth
from seedbed.text.tokenizer import Tokenizer
from seedbed.training.settings import TrainingSettings

DATA = "builtin:prose"
VOCAB_SIZE = 2048
PROMPT = "Return a new"
# Of the budget: what tokenizer, evaluations, checkpoints, bundles and completions take beside the steps.
TRAINING_SHARE = 0.72
DECODING: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 1.0, "top_k": 20},
    {"temperature": 1.0, "top_p": 0.9},
)
# What a network has different from the recipe. Nothing was tuned for the LSTM yet: docs/LOG.md says so.
TUNED: dict[str, list[str]] = {
    "transformer": [],
    "lstm": ["training.learning_rate=0.01"],
}


def demo(
    *,
    out: Path | str,
    budget_seconds: float = 150.0,
    callback: Callable[[str], Any] | None = None,
    on_plan: Callable[[str, Any, Any], None] | None = None,
) -> dict[str, Any]:
    """Train a Transformer and an LSTM of the same size on the same tokens, compare them, complete prompts,
    report.

    `callback(name)` gives the progress of a run, `on_plan(name, plan, settings)` hears its plan. The same
    call goes on where an earlier one in the folder `out` was stopped.
    """
    out = Path(out)
    if budget_seconds < 15:
        raise ConfigError(f"a budget of {budget_seconds:g} s is too short for two networks; give 15s or more")
    tokenizer = out / "tokenizer"
    if not (tokenizer / "tokenizer.json").exists():
        train_tokenizer_from(DATA, out=tokenizer, vocab_size=VOCAB_SIZE)
    vocab_size = Tokenizer.load(tokenizer).vocab_size
    sizes = _equal_sizes(vocab_size)
    steps = _steps(out / "demo.json", sizes, vocab_size, budget_seconds)
    every = max(5, steps // 10)
    summary: dict[str, Any] = {"steps": steps}
    for name, model in sizes.items():
        overrides = [f"model.{key}={value}" for key, value in model.items()] + TUNED[name]
        overrides += [f"training.{key}_every_steps={every}" for key in ("evaluate", "checkpoint")]
        result = pretrain(
            DATA,
            out=out / "runs" / name,
            recipe="fast",
            steps=steps,
            tokenizer=str(tokenizer),
            overrides=[*overrides, "training.precision=float32"],
            callbacks=[callback(name)] if callback else [],
            on_plan=(lambda plan, settings, name=name: on_plan(name, plan, settings)) if on_plan else None,
        )
        summary[name] = result.summary()
    samples = _samples(out, list(sizes))
    write_file(out / "samples.json", json.dumps(samples, indent=2).encode())
    return summary | {"samples": samples["rows"], "report": str(write_report(out))}


def _equal_sizes(vocab_size: int) -> dict[str, dict[str, Any]]:
    """The settings of both networks: the recipe's Transformer, and the LSTM whose parameters come nearest
    to it."""
    base = recipe("fast")
    context = base["training"]["context_tokens"]
    model = load_settings(ModelSettings, base["model"])
    target = parameter_count(configure(model, vocab_size=vocab_size, context_tokens=context))
    lstm = family("lstm").sized(64, 2)

    def distance(width: int) -> int:
        return abs(parameter_count(replace(lstm, vocab_size=vocab_size, d_model=width)) - target)

    width = min(range(16, 512), key=distance)
    return {"transformer": dict(base["model"]), "lstm": {"family": "lstm", "d_model": width, "num_layers": 2}}


def _steps(note: Path, sizes: dict[str, dict[str, Any]], vocab_size: int, budget_seconds: float) -> int:
    """The steps that the budget buys for both networks, measured once and written down for the next call."""
    if note.exists():
        said = json.loads(note.read_text())
        if said["budget_seconds"] != budget_seconds:
            raise ConfigError(
                f"{note.parent} holds a demo with a budget of {said['budget_seconds']:g} s; "
                "give the same budget to go on, or another folder"
            )
        return int(said["steps"])
    training = load_settings(TrainingSettings, recipe("fast")["training"])
    seconds = 0.0
    for model in sizes.values():
        settings = load_settings(ModelSettings, model)
        config = configure(settings, vocab_size=vocab_size, context_tokens=training.context_tokens)
        cost = step_at_depth(config, training, num_tokens=training.batch_tokens, runtime=Runtime())
        seconds += cost.forward_backward + cost.optimizer
    steps = max(50, int(TRAINING_SHARE * budget_seconds / seconds))
    write_file(note, json.dumps({"budget_seconds": budget_seconds, "steps": steps}).encode())
    return steps


def _samples(out: Path, names: list[str]) -> dict[str, Any]:
    """The prompt completed by both networks under every decoding."""
    rows = []
    for name in names:
        model = load(out / "runs" / name)
        for decoding in DECODING:
            answer = model.generate(PROMPT, max_new_tokens=40, seed=0, **decoding)
            shown = {"top_k": None, "top_p": None} | decoding
            rows.append({"run": name, **shown, "text": answer.text})
    return {"prompt": PROMPT, "rows": rows}
