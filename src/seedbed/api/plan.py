"""The plan of a training before its data is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from seedbed.base.hardware import ResidentPeak, probe
from seedbed.base.runtime import Runtime
from seedbed.data.objective import OBJECTIVES
from seedbed.data.vocabulary import Vocabulary
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.base import Base
from seedbed.hub.locate import is_model
from seedbed.models.family import Config, Network
from seedbed.models.network import preset
from seedbed.runs.network import STAND_IN_LABELS, require_matching_family, with_labels
from seedbed.runs.settings import RunSettings
from seedbed.runs.start import Start, context_within, load_run
from seedbed.select.decoding import plan_generation
from seedbed.select.plan import Plan, plan_training


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
        return _plan(settings, start, given, runtime=runtime, resident=resident), settings


def _given(name: str) -> Config | None:
    """The config of a model that is somewhere, or of a preset; None of a family at the settings' size."""
    if is_model(name):
        return Base.open(name).config
    return preset(name) if ":" in name else None


def _plan(
    settings: RunSettings,
    start: Start,
    given: Config | Network | None,
    *,
    runtime: Runtime,
    resident: ResidentPeak,
) -> Plan:
    """The plan of a run whose data is not known, rows as long as the context, two labels; and of its use.

    `given` is the network or its config, None for the one that the settings describe.
    """
    name = settings.objective.name
    network = given if isinstance(given, nn.Module) else None
    given = given.config if isinstance(given, nn.Module) else given
    if given is None:
        vocab_size = settings.tokenizer.vocab_size
        config = start.config(settings, vocab_size=vocab_size, labels=STAND_IN_LABELS)
    else:
        config = with_labels(require_matching_family(given, name), name, given.head.labels or STAND_IN_LABELS)
    vocabulary = Vocabulary.stand_in(config.vocab_size, decoder_start_id=start.decoder_start_id(config))
    if network is None or network.config != config:
        network = start.outline(config)
    plan = plan_training(
        network,
        settings.training,
        hardware=probe(),
        runtime=runtime,
        objective=OBJECTIVES.get(name)(vocabulary, settings.objective),
        resident=resident,
    )
    context = config.max_positions or settings.training.context_tokens
    used = plan_generation(network, context_tokens=context, runtime=runtime)
    return replace(plan, generation=None if used is None else asdict(used))
