"""The plan of a training that nobody has begun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seedbed.api.models import bundle_folder, configure
from seedbed.api.run_settings import RunSettings
from seedbed.base.hardware import probe
from seedbed.base.runtime import Runtime
from seedbed.base.settings import load_settings
from seedbed.hub.bundle import read_config
from seedbed.models.family import Config
from seedbed.models.network import preset
from seedbed.select.plan import Plan, plan_training


def plan(
    model: str | Config, *, overrides: Sequence[str] = (), device: str = "auto"
) -> tuple[Plan, RunSettings]:
    """Predict the training of a preset, a family in its default size, a bundle's architecture or a config.

    `overrides` are settings, as `training.batch_tokens=1024`. -> the plan, and the settings that it is for.
    """
    layers = {"data": {"train": "builtin:prose"}}
    if isinstance(model, str) and ":" not in model and not Path(model).exists():
        layers["model"] = {"family": model}
    settings = load_settings(RunSettings, layers, overrides=list(overrides))
    training = settings.training
    if not isinstance(model, str):
        config = model
    elif Path(model).exists():
        config = read_config(bundle_folder(model))
    elif ":" in model:
        config = preset(model)
    else:
        vocab_size = settings.tokenizer.vocab_size
        config = configure(settings.model, vocab_size=vocab_size, context_tokens=training.context_tokens)
    precision = "float32" if training.precision == "auto" else training.precision
    runtime = Runtime.from_environment(device, precision=precision, num_threads=training.num_threads)
    with runtime:
        return plan_training(config, training, hardware=probe(), runtime=runtime), settings
