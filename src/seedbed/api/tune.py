"""Tuning: a model that exists learns instructions, a task or labels, whole or with an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seedbed.api.pretrain import pretrain
from seedbed.base.arguments import brief, path_of
from seedbed.base.errors import UsageError
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.locate import is_model
from seedbed.runs.train import Run
from seedbed.runs.tuning import METHOD

RUNS = "runs"


def train(
    model: str | Path | LanguageModel,
    data: str | Path,
    *,
    out: str | Path | None = None,
    peft: str | None = None,
    **options: Any,
) -> Run:
    """Train a model on the records or the text of `data`, or resume the run in the folder `out`.

    `model` is a MODEL as in `load`, which is tuned with an adapter (`peft`: "lora", the default, or "none"
    for all of its weights); a LanguageModel, whose weights are first saved in `out`; or a preset or a family
    (`gpt2:124m`), which is trained from scratch. Without `out` a new folder is made in `runs`. `options` are
    those of `pretrain`: `task`, `steps`, `budget_seconds`, `overrides`, `settings_file`, `callbacks`,
    `notify`. Errors: UsageError, ConfigError, DataError before anything is trained; StoppedEarly after a
    signal, when all is saved.
    """
    folder = _new_folder() if out is None else path_of("out", out)
    if isinstance(model, LanguageModel):
        base = str(_saved(model, folder))
    elif not isinstance(model, str | Path):
        raise UsageError(f"model={brief(model)} is not a model; give a name, a folder or a LanguageModel")
    elif is_model(model):
        base = str(model)
    else:
        if peft not in (None, "none"):
            raise UsageError(f"peft={peft!r} adapts a model that exists, and {model} is trained from scratch")
        family, _, size = str(model).partition(":")
        overrides = [*options.pop("overrides", ()), *([f"model.preset={size}"] if size else [])]
        return pretrain(str(data), out=folder, family=family, overrides=overrides, **options)
    return pretrain(str(data), out=folder, base=base, peft=peft or METHOD, **options)


def _new_folder() -> Path:
    """The first of runs/1, runs/2 and so on that does not exist."""
    number = 1
    while (folder := Path(RUNS) / str(number)).exists():
        number += 1
    return folder


def _saved(lm: LanguageModel, folder: Path) -> Path:
    """The bundle of a model in memory in the folder of its run."""
    path = folder / "base"
    if not path.exists():
        lm.save(path)
    return path
