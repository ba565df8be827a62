"""The plan of a training, on its data or on rows as long as the context."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import nn

from seedbed.base.arguments import brief, texts_of
from seedbed.base.errors import UsageError
from seedbed.base.hardware import ResidentPeak, probe
from seedbed.base.notices import Notify, silent
from seedbed.base.runtime import Runtime
from seedbed.data.objective import OBJECTIVES
from seedbed.data.vocabulary import Vocabulary
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.locate import is_model
from seedbed.models.family import Config, Network
from seedbed.models.network import preset
from seedbed.runs.decide import decide
from seedbed.runs.lighter import lighter_ways
from seedbed.runs.network import STAND_IN_LABELS, require_matching_family, with_labels
from seedbed.runs.prepare import prepare_run
from seedbed.runs.settings import RunSettings
from seedbed.runs.start import Start, load_run
from seedbed.runs.tuning import context_within, micro_batched
from seedbed.select.decoding import plan_generation
from seedbed.select.plan import Plan, plan_training
from seedbed.training.run_folder import RunFolder


def plan(
    model: str | Path | Config | LanguageModel,
    *,
    data: str | Path | None = None,
    peft: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> Plan:
    """Predict the bytes, seconds and FLOPs of a training, by part, and of generation.

    `model` is a preset, a family (in its default size), a config, a name as in `load`, or a loaded model,
    whose frozen parameters stay frozen. `overrides` are settings, as `training.batch_tokens=1024`. With
    `data`, for a model's name, the plan is the one of `pretrain` with these settings, with `peft` that of
    `tune` with this method.
    """
    return plan_with_settings(model, data=data, peft=peft, overrides=overrides, device=device)[0]


def plan_with_settings(
    model: str | Path | Config | LanguageModel,
    *,
    data: str | Path | None = None,
    peft: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    notify: Notify = silent,
) -> tuple[Plan, RunSettings]:
    """The plan and its settings; `notify` gets a line for each part of the work."""
    overrides = texts_of("overrides", overrides)
    adapter = {} if peft is None else {"peft": {"method": peft}}
    if not isinstance(model, str | Path | Config | LanguageModel):
        raise UsageError(f"model={brief(model)} is not a model; give a preset, a config, a name or a model")
    if data is not None:
        if not isinstance(model, str | Path):
            raise UsageError("a plan with data needs a model's name; give one, or leave the data out")
        return _plan_on_data(str(model), str(data), adapter, overrides, device, notify)
    layers: dict[str, dict[str, Any]] = {"data": {"train": "builtin:prose"}} | adapter
    planned: Config | Network | None = None
    name = str(model) if isinstance(model, str | Path) else ""
    if name and is_model(name):
        layers["model"] = {"base": name}
    elif name and ":" not in name:
        layers["model"] = {"family": name}
    else:
        named = preset(str(model)) if isinstance(model, str | Path) else model
        planned, config = (named.module, named.config) if isinstance(named, LanguageModel) else (named, named)
        layers |= {"model": {"family": config.family}, "training": context_within(config)}
    settings, start = load_run(layers, overrides=list(overrides), plans=True)
    if start.base is not None:
        planned = start.base.config
    resident = ResidentPeak()
    with Runtime.from_environment(device, num_threads=settings.training.num_threads) as runtime:
        notify("measuring a few steps for the plan")
        return _plan(settings, start, planned, runtime=runtime, resident=resident), settings


def _plan_on_data(
    model: str,
    data: str,
    adapter: Mapping[str, Any],
    overrides: Sequence[str],
    device: str,
    notify: Notify,
) -> tuple[Plan, RunSettings]:
    """The plan of the run that `pretrain` would make, whose data is prepared in a folder that is deleted."""
    started = perf_counter()
    family_name, _, size = model.partition(":")
    table = {"family": family_name} | ({"preset": size} if size else {})
    table = {"base": model} if is_model(model) else table
    layers = {"data": {"train": data}, "model": table, **adapter}
    settings, start = load_run(layers, overrides=list(overrides), plans=True)
    resident = ResidentPeak()
    place = "." if os.access(".", os.W_OK) else None  # most likely the disk of the run
    with (
        tempfile.TemporaryDirectory(prefix=".plan-", dir=place) as scratch,
        Runtime.from_environment(device, num_threads=settings.training.num_threads) as runtime,
        RunFolder(Path(scratch) / "run") as run,
    ):
        prepared = prepare_run(settings, start, run, runtime=runtime, notify=notify)
        resident.lap()
        how: Any = {"runtime": runtime, "resident": resident, "started": started, "notify": notify}
        prepared, planned = decide(prepared, **how, refuse=False)
        use = _generation(prepared.start.outline(prepared.config), prepared.settings, runtime)
        return replace(planned, generation=use), prepared.settings


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
    if network is None or network.config != config or start.modify is not None:
        network = start.outline(config)
    objective = OBJECTIVES.get(name)(vocabulary, settings.objective)
    plan = plan_training(
        network,
        micro_batched(settings, runtime.device).training,
        hardware=probe(),
        runtime=runtime,
        objective=objective,
        resident=resident,
        saves_adapter=settings.peft is not None,
        lighter=lighter_ways(settings, start, config),
    )
    return replace(plan, generation=_generation(network, settings, runtime))


def _generation(network: Network, settings: RunSettings, runtime: Runtime) -> dict[str, Any] | None:
    """The cost of generation with the whole context."""
    context = network.config.max_positions or settings.training.context_tokens
    found = plan_generation(network, context_tokens=context, runtime=runtime)
    return None if found is None else asdict(found)
