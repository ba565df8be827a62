"""The plan of a training that nobody has begun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seedbed.base.hardware import ResidentPeak, probe
from seedbed.base.runtime import Runtime
from seedbed.data.vocabulary import Vocabulary
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.bundle import read_config
from seedbed.hub.locate import is_model, locate
from seedbed.models.family import Config
from seedbed.models.network import preset
from seedbed.runs.architecture import configure
from seedbed.runs.heads import STAND_IN_LABELS, with_labels
from seedbed.runs.objectives import decoder_start_id, load_run_settings, objective_for, require_fitting
from seedbed.runs.settings import RunSettings
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
    given = _given(str(model)) if isinstance(model, str | Path) else model
    layers = {
        "data": {"train": "builtin:prose"},
        "model": {"family": str(model) if given is None else given.family},
    }
    settings = load_run_settings(layers, overrides=list(overrides))
    training = settings.training
    vocab_size, context = settings.tokenizer.vocab_size, training.context_tokens
    config = given or configure(settings.model, vocab_size=vocab_size, context_tokens=context)
    config = require_fitting(config, settings.objective.name)
    config = with_labels(config, settings.objective.name, config.head.labels or STAND_IN_LABELS)
    vocabulary = Vocabulary.stand_in(config.vocab_size, decoder_start_id=decoder_start_id(config))
    objective = objective_for(settings.objective, vocabulary)
    precision = "float32" if training.precision == "auto" else training.precision
    resident = ResidentPeak()
    with Runtime.from_environment(device, precision=precision, num_threads=training.num_threads) as runtime:
        hardware = probe()
        planned = plan_training(
            config,
            training,
            hardware=hardware,
            runtime=runtime,
            objective=objective,
            resident=resident,
        )
    return planned, settings


def _given(name: str) -> Config | None:
    """The config of a model that lies somewhere, or of a preset; None of a family at the settings' size."""
    if is_model(name):
        return read_config(locate(name, weights=False))
    return preset(name) if ":" in name else None
