"""One small network of each architecture on the same text, and its scores on the same tasks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seedbed.api.side_by_side import lstm_width, shared_steps, train_all
from seedbed.api.tokenizers import train_tokenizer_from
from seedbed.base.errors import ConfigError
from seedbed.base.files import disk_errors, write_file
from seedbed.base.signals import StopSignals
from seedbed.data.prepare import DataSettings
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
    """A kind of network as courses describe it, and the text of its example.

    `settings` are those that differ from the recipe.
    """

    title: str
    architecture: str
    sees: str
    good_at: str
    num_layers: int
    task: str
    given: str
    settings: tuple[str, ...] = ()


FILL, CONTINUE = "fill the blank", "continue"
GAP = "    def close(self):\n        if not ___:\n            self.file.close()\n"
BEGUN = "    def close(self):\n        if self."
KINDS: dict[str, Kind] = {
    # Of masks and rates seven settings were tried on 800 to 2,400 steps (docs/LOG.md, 2026-11-27); a share of
    # masks of 40% is that of Wettig et al. (2202.08005).
    "bert": Kind(
        title="BERT",
        settings=("objective.rate=0.4", "training.learning_rate=0.003", "training.matrix_learning_rate=0.01"),
        architecture="encoder-only",
        sees="both sides of every token",
        good_at="labels for words and texts",
        num_layers=4,
        task=FILL,
        given="    def close(self):\n        ___ not self.closed:\n            self.file.close()\n",
    ),
    "gpt2": Kind(
        title="GPT-2",
        architecture="decoder-only",
        sees="the tokens before each",
        good_at="continuing a text",
        num_layers=4,
        task=CONTINUE,
        given=BEGUN,
    ),
    "t5": Kind(
        title="T5",
        architecture="encoder-decoder",
        sees="both sides of a gap, then the answer so far",
        good_at="answers to a text: gaps, summaries",
        num_layers=2,
        task=FILL,
        given=GAP,
    ),
    "bart": Kind(
        title="BART",
        architecture="encoder-decoder",
        sees="both sides of a gap, then the text so far",
        good_at="rewriting a text: repairs, summaries",
        num_layers=2,
        task=FILL,
        given=GAP,
    ),
    "lstm": Kind(
        title="LSTM",
        architecture="recurrent",
        sees="the tokens before each, through one state",
        good_at="long texts in constant memory",
        num_layers=2,
        task=CONTINUE,
        given=BEGUN,
    ),
}


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
        steps = shared_steps(
            out,
            DATA,
            {name: kind.title for name, kind in KINDS.items()},
            arguments,
            seconds=TRAINING_SHARE * budget_seconds - (time.perf_counter() - started),
            budget_seconds=budget_seconds,
        )
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
    tokenizer = str(out / "tokenizers" / name)
    arguments = {"recipe": "fast", "family": name, "steps": steps, "tokenizer": tokenizer}
    return arguments | {"overrides": overrides}


def _widths() -> dict[str, int]:
    """The width of each network: the recipe's, and for the LSTM that of GPT-2's number of parameters."""
    width = int(recipe("fast")["model"]["d_model"])
    widths = dict.fromkeys(KINDS, width)
    gpt2 = ModelSettings(family="gpt2", d_model=width, num_layers=KINDS["gpt2"].num_layers)
    target = parameter_count(configure(gpt2, vocab_size=NUM_TOKENS, context_tokens=CONTEXT))
    num_layers = KINDS["lstm"].num_layers
    widths["lstm"] = lstm_width(target, num_layers=num_layers, vocab_size=NUM_TOKENS)
    return widths


def _measure(
    out: Path, results: dict[str, dict[str, Any]], data: DataSettings, *, tokens: int
) -> dict[str, Any]:
    """The content of `families.json`: each network with its scores and its example."""
    tasks = gather(data)
    models = []
    found: dict[str, Any] = {"data": DATA, "tokens": tokens, "num_windows": NUM_WINDOWS}
    found |= {f"num_{name}": [len(side) for side in getattr(tasks, name)] for name in ("words", "sentences")}
    for name, kind in KINDS.items():
        lm = load(out / "runs" / name)
        bits = results[name]["metrics"]["validation_bits_per_byte"]
        scores = measure(lm, tasks)
        scores["bits_per_byte"] = None if bits is None else {"value": bits, "interval": None}
        model: dict[str, Any] = {"run": name, "title": kind.title, "architecture": kind.architecture}
        model |= {"sees": kind.sees, "objective": family(name).objective, "good_at": kind.good_at}
        model |= {"parameters": parameter_count(lm.config), "scores": scores}
        example = {"task": kind.task, "given": kind.given, "answer": _answer(lm, kind)}
        models.append(model | {"example": example})
        if name == "bert":
            found["baselines"] = baselines(lm, tasks)
    return found | {"models": models}


def _answer(lm: LanguageModel, kind: Kind) -> str:
    """The text with its blank filled, or with its continuation."""
    if kind.task == FILL:
        return str(lm.fill(kind.given).text)
    return kind.given + str(lm.generate(kind.given, 24, temperature=0.0).text)
