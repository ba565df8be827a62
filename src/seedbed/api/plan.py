"""The plan of a training that nobody has begun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seedbed.api.models import configure, is_model, locate, require_fitting
from seedbed.api.run_settings import RunSettings
from seedbed.base.hardware import ResidentPeak, probe
from seedbed.base.runtime import Runtime
from seedbed.base.settings import load_settings
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.bundle import read_config
from seedbed.models.family import Config
from seedbed.models.network import preset
from seedbed.select.plan import Plan, plan_training


def plan(
    model: str | Path | Config | LanguageModel, *, overrides: Sequence[str] = (), device: str = "auto"
) -> Plan:
    """Predict a training: bytes, seconds and FLOPs, by part.

    `model` is a preset, a family (in its default size), a model as `load` takes it or as it gives it, or a
    config.

    `overrides` are settings, as `training.batch_tokens=1024`.
    """
    return plan_with_settings(model, overrides=overrides, device=device)[0]


def plan_with_settings(
    model: str | Path | Config | LanguageModel, *, overrides: Sequence[str] = (), device: str = "auto"
) -> tuple[Plan, RunSettings]:
    """The plan, and the settings that it is for."""
    if isinstance(model, LanguageModel):
        model = model.config
    name = str(model) if isinstance(model, str | Path) else None
    layers = {"data": {"train": "builtin:prose"}}
    if name is not None and ":" not in name and not is_model(name):
        layers["model"] = {"family": name}
    settings = load_settings(RunSettings, layers, overrides=list(overrides))
    training = settings.training
    config = model if not isinstance(model, str | Path) else _config(str(model), settings)
    config = require_fitting(config, settings.objective.name)
    precision = "float32" if training.precision == "auto" else training.precision
    resident = ResidentPeak()
    with Runtime.from_environment(device, precision=precision, num_threads=training.num_threads) as runtime:
        hardware = probe()
        planned = plan_training(config, training, hardware=hardware, runtime=runtime, resident=resident)
    return planned, settings


def _config(name: str, settings: RunSettings) -> Config:
    """The config of a model that lies somewhere, a preset, or a family at the size of the settings."""
    if is_model(name):
        return read_config(locate(name, weights=False))
    if ":" in name:
        return preset(name)
    vocab_size, context = settings.tokenizer.vocab_size, settings.training.context_tokens
    return configure(settings.model, vocab_size=vocab_size, context_tokens=context)
