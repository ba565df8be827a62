"""From a corpus to a base model: settings, tokenizer, shards, plan, training, the best bundle, the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from seedbed import __version__
from seedbed.base.errors import ConfigError, UsageError
from seedbed.base.files import disk_errors, write_file
from seedbed.base.hardware import ResidentPeak
from seedbed.base.runtime import Runtime, derive_seed
from seedbed.base.settings import layered, to_tree
from seedbed.base.signals import StopSignals
from seedbed.data.loader import Loader
from seedbed.data.objective import Objective
from seedbed.data.prepare import PreparedData, prepare, training_texts
from seedbed.data.shown import Shown
from seedbed.hub.bundle import open_bundle, read_config, read_tokenizer, save_bundle
from seedbed.hub.locate import locate
from seedbed.models.family import Config, Network
from seedbed.models.network import build, initialize
from seedbed.models.network import family as named_family
from seedbed.report.run_report import write_report
from seedbed.runs.architecture import configure
from seedbed.runs.card import model_card
from seedbed.runs.decide import decide, saved_plan
from seedbed.runs.examples import NUM_KEPT, first_examples, write_examples
from seedbed.runs.heads import base_labels, on_body, with_labels
from seedbed.runs.objectives import (
    learning,
    learns_from,
    load_run_settings,
    named_tokens,
    objective_for,
    require_fitting,
    vocabulary_of,
)
from seedbed.runs.recipes import recipe as named_recipe
from seedbed.runs.settings import RunSettings, decided
from seedbed.select.plan import Plan
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer
from seedbed.training.loop import Callback, train
from seedbed.training.resume import Progress, load_best
from seedbed.training.run_folder import RunFolder

# Settings of the training that change none of its examples.
_FREE = ("precision", "num_steps", "budget_seconds", "evaluate_every_steps", "checkpoint_every_steps")


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What a run made: its folder, the model in it, the plan, what was measured, its losses.

    `next` is a command that shows what the model does.
    """

    run: Path
    model: Path
    report: Path
    plan: dict[str, Any]
    measured: dict[str, Any]
    metrics: dict[str, Any]
    next: str
    is_main: bool = True  # False in the processes of torchrun that leave speaking to the first

    def summary(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "run": str(self.run),
            "model": str(self.model),
            "report": str(self.report),
            "plan": self.plan,
            "measured": self.measured,
            "metrics": self.metrics,
        }


def run_settings(
    data: str,
    *,
    family: str | None = None,
    recipe: str | None = None,
    settings_file: Path | None = None,
    overrides: Sequence[str] = (),
    steps: int | None = None,
    budget_seconds: float | None = None,
    tokenizer: str | None = None,
    objective: str | None = None,
) -> RunSettings:
    """The settings of a run: the recipe's, under a TOML file's, under the flags'."""
    if steps is not None and budget_seconds is not None:
        raise ConfigError("--steps and --budget both say how long to train; give one of them")
    flags: dict[str, Any] = {
        "data": {"train": data},
        "model": {},
        "tokenizer": {},
        "training": {},
        "objective": {},
    }
    for table, key, value in (
        ("model", "family", family),
        ("training", "num_steps", steps),
        ("training", "budget_seconds", budget_seconds),
        ("tokenizer", "path", tokenizer),
        ("objective", "name", objective),
    ):
        if value is not None:
            flags[table][key] = value
    layers: list[Mapping[str, Any] | Path] = [] if settings_file is None else [settings_file]
    if recipe:
        given = named_recipe(recipe)
        if layered(*layers, flags, overrides=list(overrides)).get("model", {}).get("base") is not None:
            given = {table: values for table, values in given.items() if table != "model"}  # it has its size
        layers.insert(0, given)
    asked = load_run_settings(*layers, flags, overrides=list(overrides))
    # Before a corpus is read; a base is looked at in `_config`.
    if asked.model.base is None:
        require_fitting(named_family(asked.model.family).sized(64, 1), asked.objective.name)
    return asked


def pretrain(
    data: str,
    *,
    out: Path | str,
    callbacks: Sequence[Callback] = (),
    on_plan: Any = None,
    device: str = "auto",
    **wanted: Any,
) -> PretrainResult:
    """Train a model on `data` in the run folder `out`, or go on with the run that is there.

    `wanted` are the arguments of `run_settings`; `on_plan(plan, settings)` is called before the first step.
    Errors: StoppedEarly after a signal, all saved; the other SeedbedErrors in one line each.
    """
    asked = run_settings(data, **wanted)
    resident = ResidentPeak()
    with (
        StopSignals() as signals,
        Runtime.from_environment(device, num_threads=asked.training.num_threads) as runtime,
        RunFolder(out, writable=runtime.is_main, keep_checkpoints=asked.training.keep_checkpoints) as run,
    ):
        saved = run.saved_settings()
        tokenizer, prepared = _prepare(asked, run=run, runtime=runtime)
        resident.lap()
        config = _config(asked, tokenizer, prepared.labels)
        objective = objective_for(asked.objective, vocabulary_of(tokenizer, config, asked.model.base))
        settings, plan = decide(
            asked,
            saved,
            config=config,
            objective=objective,
            prepared=prepared,
            runtime=runtime,
            run=run,
            resident=resident,
        )
        runtime = replace(runtime, precision=settings.training.precision)
        run.settle(settings)
        if runtime.is_main:
            if saved is None or saved_plan(run) is None:
                write_file(run.plan_path, json.dumps(plan.to_dict(), indent=2).encode())
            if on_plan is not None:
                on_plan(plan, settings)
        module = _module(config, settings)
        progress = _train(
            module, objective, settings, prepared, run=run, runtime=runtime, callbacks=callbacks, plan=plan
        )
        bits = _bits(progress, prepared) if objective.reads_text_once else None
        resident.lap()  # a bundle is written and read again in the room of the optimizer and the activations
        with signals.hold():
            if runtime.is_main:
                _finish(module, settings, tokenizer, progress, resident, prepared, run, bits=bits)
            runtime.broadcast_int(0)  # the others wait here for the main rank
    shown = next_command(run.path, config, objective)
    return _result(run, progress, bits=bits, shown=shown, is_main=runtime.is_main)


def next_command(run: Path, config: Config, objective: Objective) -> str:
    """The command that shows what a run's model does."""
    if config.head.labels:
        verb = "classify" if config.head.kind == "classification" else "tag"
        return f'python -c \'import seedbed; print(seedbed.load("{run}").{verb}("..."))\''
    fills = config.head.kind == "mlm" or (
        config.shape == "encoder-decoder" and objective.learns_from == "text"
    )
    return f'seedbed generate {run} --fill "... ___ ..."' if fills else f'seedbed generate {run} "..."'


def _result(
    run: RunFolder, progress: Progress, *, bits: float | None, shown: str, is_main: bool
) -> PretrainResult:
    plan_dict = json.loads(run.plan_path.read_text())
    metrics = {"step": progress.step, "loss": progress.loss, "best_step": progress.best_step}
    metrics |= {"validation_loss": progress.best_loss, "validation_bits_per_byte": bits}
    return PretrainResult(
        run=run.path,
        model=run.model_path,
        report=run.report_path,
        plan={k: v for k, v in plan_dict.items() if k != "measured"},
        measured=plan_dict.get("measured", {}),
        metrics=metrics,
        next=shown,
        is_main=is_main,
    )


def show(data: str, *, out: Path | str, num: int = 3, **wanted: Any) -> list[Shown]:
    """The first `num` training examples of the run that `pretrain` would do, as it reads them, untrained.

    The tokenizer and the shards lie in `out` afterwards, and the run goes on with them. `wanted` are the
    arguments of `run_settings`; a run that has begun refuses others than its own, but for how long it trains.
    """
    if num < 1:
        raise UsageError(f"--show {num} shows nothing; give the number of examples, 1 or more")
    asked = run_settings(data, **wanted)
    with RunFolder(out, keep_checkpoints=asked.training.keep_checkpoints) as run:
        if (saved := run.saved_settings()) is not None:
            then = saved["training"]
            run.refuse_difference(saved, decided(asked, **{k: then[k] for k in _FREE if k in then}))
        tokenizer, prepared = _made(asked, run)
        config = _config(asked, tokenizer, prepared.labels)
        training = asked.training
        objective = objective_for(asked.objective, vocabulary_of(tokenizer, config, asked.model.base))
        mixture = learning(objective, prepared, training).mixture
        return first_examples(mixture, num, seed=training.seed, config=config, tokenizer=tokenizer)


def _prepare(settings: RunSettings, *, run: RunFolder, runtime: Runtime) -> tuple[Tokenizer, PreparedData]:
    """The run's tokenizer and shards; the main rank makes them, the others read them."""
    if not runtime.is_main:
        runtime.broadcast_int(0)  # waits here for the main rank
        tokenizer = Tokenizer.load(run.path / "tokenizer")
        return tokenizer, _prepared(settings, tokenizer, run)
    found = _made(settings, run)
    runtime.broadcast_int(0)
    return found


def _made(settings: RunSettings, run: RunFolder) -> tuple[Tokenizer, PreparedData]:
    """The tokenizer and the shards in a run's folder, made where they are not there yet.

    A tokenizer that other settings made, before the run had a checkpoint, is made anew.
    """
    folder, tree = run.path / "tokenizer", to_tree(settings)
    model = {key: tree["model"].get(key) for key in ("family", "base")}
    made_from = {"tokenizer": tree["tokenizer"], "data": tree["data"], "model": model}
    made_from["learns_from"] = learns_from(settings.objective)
    content, note = json.dumps(made_from, sort_keys=True).encode(), folder / "made_from.json"
    if note.exists() and not run.can_resume and note.read_bytes() != content:
        (folder / "tokenizer.json").unlink(missing_ok=True)
    if not (folder / "tokenizer.json").exists():
        made = _tokenizer(settings)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_file(note, content)
        made.save(folder)
    tokenizer = Tokenizer.load(folder)
    return tokenizer, _prepared(settings, tokenizer, run)


def _prepared(settings: RunSettings, tokenizer: Tokenizer, run: RunFolder) -> PreparedData:
    return prepare(
        settings.data,
        tokenizer,
        run.path / "data",
        learns_from=learns_from(settings.objective),
        head_labels=base_labels(settings),
    )


def _tokenizer(settings: RunSettings) -> Tokenizer:
    wanted, base = settings.tokenizer, settings.model.base
    if wanted.path is not None:
        return Tokenizer.load(wanted.path)
    if base is not None:
        place = locate(base, weights=False)
        if place.is_dir() and not Tokenizer.is_in(place):
            raise ConfigError(f"the base {base} has no tokenizer; give one with --tokenizer FOLDER")
        return read_tokenizer(place)
    form = named_family(settings.model.family).special
    texts = training_texts(settings.data, learns_from=learns_from(settings.objective))
    return train_tokenizer(texts, wanted.kind, vocab_size=wanted.vocab_size, special=form)


def _config(settings: RunSettings, tokenizer: Tokenizer, labels: Sequence[str]) -> Config:
    """The base's config, or the one that the settings ask for, with a head for the labels, if any."""
    objective = settings.objective.name
    if settings.model.base is not None:
        config = require_fitting(read_config(locate(settings.model.base, weights=False)), objective)
    else:
        context = settings.training.context_tokens
        config = configure(settings.model, vocab_size=tokenizer.vocab_size, context_tokens=context)
    return with_labels(config, objective, labels)


def _module(config: Config, settings: RunSettings) -> Network:
    """The base, or a network with weights drawn from the training's seed."""
    generator = torch.Generator().manual_seed(derive_seed(settings.training.seed, "weights"))
    if settings.model.base is not None:
        return on_body(open_bundle(locate(settings.model.base))[0], config.head, generator)
    module = build(config)
    initialize(module, generator)
    return module


def _train(
    module: Network,
    objective: Objective,
    settings: RunSettings,
    prepared: PreparedData,
    *,
    run: RunFolder,
    runtime: Runtime,
    callbacks: Sequence[Callback],
    plan: Plan,
) -> Progress:
    training = settings.training
    mixture, held_out = learning(objective, prepared, training)
    if runtime.is_main and not run.can_resume:
        own = Tokenizer.load(run.path / "tokenizer")
        seed, config = training.seed, module.config
        write_examples(first_examples(mixture, NUM_KEPT, seed=seed, config=config, tokenizer=own), run)
    module.set_activation_checkpointing(training.checkpoint_activations)
    return train(
        module,
        Loader(mixture, batch_tokens=training.batch_tokens, seed=training.seed),
        objective=objective,
        settings=training,
        run=run,
        runtime=runtime,
        validation=held_out,
        callbacks=callbacks,
        fingerprints={"content": prepared.fingerprint},
        peak_tokens_per_second=plan.peak_tokens_per_second,
    )


def _finish(
    module: Network,
    settings: RunSettings,
    tokenizer: Tokenizer,
    progress: Progress,
    resident: ResidentPeak,
    prepared: PreparedData,
    run: RunFolder,
    *,
    bits: float | None,
) -> None:
    """Save the best weights as a bundle, add what was measured to the plan, write the report."""
    load_best(module, run)
    card = model_card(
        module.config,
        settings=to_tree(settings),
        step=progress.best_step or progress.step,
        loss=progress.best_loss,
        bits_per_byte=bits,
        fingerprint=prepared.fingerprint,
        version=__version__,
    )
    named = named_tokens(settings.model.base)
    save_bundle(run.model_path, module, tokenizer, card=card, generation=named)
    plan = json.loads(run.plan_path.read_text())
    if progress.seconds and "measured" not in plan:
        measured = {
            "peak_bytes": resident.most(),  # above the state after the imports
            "seconds": progress.seconds,
            "tokens_per_second": progress.tokens / progress.seconds,
        }
        write_file(run.plan_path, json.dumps(plan | {"measured": measured}, indent=2).encode())
    write_report(run.path)


def _bits(progress: Progress, prepared: PreparedData) -> float | None:
    if progress.best_loss is None:
        return None
    held_out = prepared.validation
    num_targets = held_out.num_tokens - held_out.num_documents
    return progress.best_loss * num_targets / (math.log(2) * held_out.num_bytes)
