"""The plan of a training without its data."""

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
    """Predict the bytes, seconds and FLOPs of a training, by part, and of generation.

    `model` is a preset, a family (in its default size), a config, a name as in `load`, or a loaded model,
    whose frozen parameters stay frozen. `overrides` are settings, as `training.batch_tokens=1024`.
    """
    return plan_with_settings(model, overrides=overrides, device=device)[0]


def plan_with_settings(
    model: str | Path | Config | LanguageModel, *, overrides: Sequence[str] = (), device: str = "auto"
) -> tuple[Plan, RunSettings]:
    """The plan and its settings."""
    planned: Config | Network | None
    config: Config | None
    if isinstance(model, LanguageModel):
        planned, config = model.module, model.config
    else:
        planned = config = _config(str(model)) if isinstance(model, str | Path) else model
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
        return _plan(settings, start, planned, runtime=runtime, resident=resident), settings


def _config(name: str) -> Config | None:
    """The config of a model or of a preset; None for a family in the size of the settings."""
    if is_model(name):
        return Base.open(name).config
    return preset(name) if ":" in name else None


def _plan(
    settings: RunSettings,
    start: Start,
    planned: Config | Network | None,
    *,
    runtime: Runtime,
    resident: ResidentPeak,
) -> Plan:
    """The plan of a run with rows as long as the context and two labels, and of generation.

    `planned` is the network or its config, None for the one that the settings describe.
    """
    name = settings.objective.name
    network = planned if isinstance(planned, nn.Module) else None
    known = planned.config if isinstance(planned, nn.Module) else planned
    if known is None:
        vocab_size = settings.tokenizer.vocab_size
        config = start.config(settings, vocab_size=vocab_size, labels=STAND_IN_LABELS)
    else:
        config = with_labels(require_matching_family(known, name), name, known.head.labels or STAND_IN_LABELS)
    start_id, needs = start.decoder_start_id(config), OBJECTIVES.get(name).needs
    vocabulary = Vocabulary.stand_in(config.vocab_size, needs=needs, decoder_start_id=start_id)
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
    generation = plan_generation(network, context_tokens=context, runtime=runtime)
    return replace(plan, generation=None if generation is None else asdict(generation))
