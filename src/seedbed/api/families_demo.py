"""One small network of each architecture on the same text, and its scores on the same tasks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.api.side_by_side import shared_steps, train_all
from seedbed.api.tokenizers import train_tokenizer_from
from seedbed.base.errors import ConfigError
from seedbed.base.files import disk_errors, write_file
from seedbed.base.signals import StopSignals
from seedbed.data.settings import DataSettings
from seedbed.evaluation.family_tasks import baselines, gather, measure
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load
from seedbed.models.network import family
from seedbed.report.run_report import write_report

DATA = "builtin:code"
NUM_TOKENS, CONTEXT = 2048, 128
# Of the budget; the rest is for the tokenizers and the tasks.
TRAINING_SHARE = 0.75
LEAST_SECONDS = 60.0
# The text of each network's example: a beginning to continue, or a blank to fill.
BEGINNING = "\n    def close(self):\n        if self."
BLANKED = "\n    def close(self):\n        if not ___.closed:\n            self.file.close()\n"


class Kind(NamedTuple):
    """A kind of network as courses describe it, its size, and its settings that differ from the recipe's."""

    title: str
    architecture: str
    sees: str
    good_at: str
    num_layers: int
    d_model: int
    settings: tuple[str, ...] = ()


# Of masks and rates seven settings were tried on 800 to 2,400 steps (docs/LOG.md, 2026-11-27); a share of
# masks of 40% is that of Wettig et al. (2202.08005).
MASKED = ("objective.rate=0.4", "training.learning_rate=0.003", "training.matrix_learning_rate=0.01")
# The width is that of the recipe, and the LSTM's that of GPT-2's number of parameters.
KINDS = {
    "bert": Kind("BERT", "encoder-only", "both sides of every token", "labels of texts", 4, 96, MASKED),
    "gpt2": Kind("GPT-2", "decoder-only", "the tokens before each", "continuing a text", 4, 96),
    "t5": Kind("T5", "encoder-decoder", "both sides of a gap, the answer so far", "gaps, summaries", 2, 96),
    "bart": Kind("BART", "encoder-decoder", "both sides of a gap, the text so far", "rewriting texts", 2, 96),
    "lstm": Kind("LSTM", "recurrent", "one state of the tokens before", "long texts, little memory", 2, 111),
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
        short = f"a budget of {budget_seconds:g} s is too short for {len(KINDS)} networks"
        raise ConfigError(f"{short}; give {LEAST_SECONDS:g}s or more")
    started = time.perf_counter()
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    titles = {name: kind.title for name, kind in KINDS.items()}
    with StopSignals():
        _train_tokenizers(out)
        arguments = partial(_arguments, out)
        left = TRAINING_SHARE * budget_seconds - (time.perf_counter() - started)
        steps = shared_steps(out, DATA, titles, arguments, seconds=left, budget_seconds=budget_seconds)
    runs = train_all(out, DATA, KINDS, arguments, steps, callback=callback, on_plan=on_plan)
    with StopSignals():
        found = _measured(out)
    write_file(out / "families.json", json.dumps(found, indent=2).encode())
    return {"steps": steps, "runs": runs, "families": found, "report": str(write_report(out))}


def _train_tokenizers(out: Path) -> None:
    """One kind of tokenizer for all: the same vocabulary, and each family's own special tokens."""
    for name in KINDS:
        folder = out / "tokenizers" / name
        if not (folder / "tokenizer.json").exists():
            vocab_size = NUM_TOKENS + family(name).special.num_tokens
            train_tokenizer_from(DATA, out=folder, kind="bpe", family=name, vocab_size=vocab_size)


def _arguments(out: Path, name: str, steps: int) -> dict[str, Any]:
    """A run's arguments for `pretrain`."""
    every = max(5, -(-steps // 3))
    overrides = [f"model.num_layers={KINDS[name].num_layers}", f"model.d_model={KINDS[name].d_model}"]
    overrides += [f"training.context_tokens={CONTEXT}", *KINDS[name].settings]
    overrides += [f"training.{key}_every_steps={every}" for key in ("evaluate", "checkpoint")]
    kept = {"recipe": "fast", "family": name, "steps": steps, "overrides": overrides}
    return kept | {"tokenizer": str(out / "tokenizers" / name)}


def _measured(out: Path) -> dict[str, Any]:
    """The content of `families.json`: each network with its scores and its example, and the baselines."""
    tasks, models = gather(DataSettings(train=DATA)), []
    for name, kind in KINDS.items():
        lm = load(out / "runs" / name)
        facts = {"run": name, "objective": family(name).objective, **kind._asdict()}
        given, answer = _example(lm)
        models.append(facts | {"given": given, "answer": answer, "scores": measure(lm, tasks)})
    return {"models": models, "baselines": baselines(load(out / "runs" / "bert"), tasks)}


def _example(lm: LanguageModel) -> tuple[str, str]:
    """A beginning and its continuation, or a text with a blank and the same text with it filled."""
    if lm.config.shape == "decoder":
        return BEGINNING, f"{BEGINNING}{lm.generate(BEGINNING, 24, temperature=0.0).text}"
    return BLANKED, str(lm.fill(BLANKED).text)
