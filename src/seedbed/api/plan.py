"""The plan of a training before its data is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seedbed.base.hardware import ResidentPeak
from seedbed.base.runtime import Runtime
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.base import Base
from seedbed.hub.locate import is_model
from seedbed.models.family import Config, Network
from seedbed.models.network import preset
from seedbed.runs.decide import plan_config
from seedbed.runs.settings import RunSettings
from seedbed.runs.start import context_within, load_run
from seedbed.select.plan import Plan


def plan(
    model: str | Path | Config | LanguageModel, *, overrides: Sequence[str] = (), device: str = "auto"
) -> Plan:
    """Predict a training: bytes, seconds and FLOPs, by part; and the model's use for generation.

    `model` is a preset, a family (in its default size), a config, or a model as `load` takes it or as it
    gives it; what is frozen in the latter (`requires_grad`) stays frozen.

    `overrides` are settings, as `training.batch_tokens=1024`.
    """
    return plan_with_settings(model, overrides=overrides, device=device)[0]


def plan_with_settings(
    model: str | Path | Config | LanguageModel, *, overrides: Sequence[str] = (), device: str = "auto"
) -> tuple[Plan, RunSettings]:
    """The plan, and the settings that it is for."""
    given: Config | Network | None
    config: Config | None
    if isinstance(model, LanguageModel):
        given, config = model.module, model.config
    else:
        given = config = _given(str(model)) if isinstance(model, str | Path) else model
    layers = {
        "data": {"train": "builtin:prose"},
        "model": {"family": str(model) if config is None else config.family},
        "training": {} if config is None else context_within(config),
    }
    settings, start = load_run(layers, overrides=list(overrides))
    training, precision = settings.training, settings.training.precision
    resident = ResidentPeak()
    with Runtime.from_environment(
        device,
        precision="float32" if precision == "auto" else precision,
        num_threads=training.num_threads,
    ) as runtime:
        return plan_config(settings, start, given, runtime=runtime, resident=resident), settings


def _given(name: str) -> Config | None:
    """The config of a model that is somewhere, or of a preset; None of a family at the settings' size."""
    if is_model(name):
        return Base.open(name).config
    return preset(name) if ":" in name else None
