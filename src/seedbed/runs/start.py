"""What a run starts from, fresh weights or a base, and the settings that go with it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from seedbed.base.errors import ConfigError, SeedbedWarning, UsageError
from seedbed.base.runtime import derive_seed
from seedbed.base.settings import layered, load_settings
from seedbed.data.objective import OBJECTIVES
from seedbed.hub.base import Base
from seedbed.models.family import Config, Network
from seedbed.models.network import build, decoder_start_id, family, initialize
from seedbed.runs.network import configure, on_body, require_matching_family, with_labels
from seedbed.runs.settings import ModelSettings, RunSettings
from seedbed.runs.settings import recipe as named_recipe
from seedbed.text.special_form import BLANK_KEY
from seedbed.training.run_folder import RunFolder
from seedbed.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Start:
    """Fresh weights, or those of a base that has been read once.

    `modify` changes the network before it trains: it freezes parameters, or puts modules in others' places.
    It must do the same to every network of one config, since the planner's is one without memory.
    """

    base: Base | None = None
    modify: Callable[[Network], None] | None = None

    def config(self, settings: RunSettings, *, vocab_size: int, labels: Sequence[str] = ()) -> Config:
        """The base's config, or the one that the settings describe, with a head for the labels, if any."""
        objective = settings.objective.name
        if self.base is not None:
            config = require_matching_family(self.base.config, objective)
        else:
            context = settings.training.context_tokens
            config = configure(settings.model, vocab_size=vocab_size, context_tokens=context)
        return with_labels(config, objective, labels)

    def labels(self, objective: str) -> tuple[str, ...]:
        """The labels of the base's head, none where the objective puts on another kind of head."""
        if self.base is None or self.base.config.head.kind != OBJECTIVES.get(objective).head_kind:
            return ()
        return self.base.config.head.labels

    def decoder_start_id(self, config: Config) -> int | None:
        """What a decoder reads first after an encoder, as the base's files say or its family's."""
        own = decoder_start_id(config)
        named = {} if self.base is None else self.base.named_tokens
        return own if own is None else named.get("decoder_start_token_id", own)

    def generation(self, objective: str) -> dict[str, Any]:
        """What a bundle says of answers: the base's tokens, and what a blank becomes where that is learnt."""
        named: dict[str, Any] = {} if self.base is None else dict(self.base.named_tokens)
        before = None if self.base is None else self.base.generation.get(BLANK_KEY)
        blank = OBJECTIVES.get(objective).blank() or before
        return named if blank is None else named | {BLANK_KEY: blank}

    def network(self, config: Config, *, seed: int) -> Network:
        """The network to train: the base's, or one whose weights are drawn from the seed."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
        if self.base is not None:
            module = on_body(self.base.network(), config.head, generator)
        else:
            module = build(config)
            initialize(module, generator)
        return self._modified(module)

    def outline(self, config: Config) -> Network:
        """The same network without memory, on the meta device, for a plan."""
        return self._modified(build(config, "meta"))

    def _modified(self, module: Network) -> Network:
        if self.modify is not None:
            self.modify(module)
        return module


def run_settings(
    data: str,
    *,
    out: Path | str | None = None,
    family: str | None = None,
    recipe: str | None = None,
    settings_file: Path | None = None,
    overrides: Sequence[str] = (),
    steps: int | None = None,
    budget_seconds: float | None = None,
    tokenizer: str | None = None,
    objective: str | None = None,
) -> tuple[RunSettings, Start]:
    """The settings of a run and its start: the recipe's, under a TOML file's, under the flags'.

    A run in `out` that can resume keeps the commit of its base.
    """
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
    return load_run(*layers, flags, overrides=list(overrides), out=out)


def load_run(
    *layers: Mapping[str, Any] | Path, overrides: Sequence[str] = (), out: Path | str | None = None
) -> tuple[RunSettings, Start]:
    """A run's settings and its start.

    `[objective]` has the keys of the objective that it names, of the family's own where it names none. Where
    no optimizer is named, the family's own settings of the training lie under all layers. A base is looked
    up and read here, and nowhere else in a run; the settings name the commit of one on the hub.
    """
    tree = layered(*layers, overrides=overrides)
    table, base = tree.get("model", {}), None
    named = table.get("family")
    if table.get("base") is not None:
        if not str(table["base"]).strip():
            raise ConfigError("model.base is empty; name a model, or leave it out")
        known = _pinned(str(table["base"]), out)
        base = Base.open(known.get("base", str(table["base"])))
        if named not in (None, base.config.family):
            raise ConfigError(
                f"model.family={named} contradicts the base {base.name}, which is a {base.config.family}; "
                "leave the family out"
            )
        if unused := [
            f"tokenizer.{key}" for key in ("kind", "vocab_size") if key in tree.get("tokenizer", {})
        ]:
            warnings.warn(
                f"no effect beside model.base, which has its own tokenizer: {', '.join(unused)}",
                SeedbedWarning,
                stacklevel=2,
            )
        pinned = {"family": base.config.family, "base": base.name} | known
        layers = (*layers, {"model": pinned})
        overrides = [given for given in overrides if given.partition("=")[0].strip() != "model.base"]
    own = family(str(named or ModelSettings.family) if base is None else base.config.family)
    objective = str(tree.get("objective", {}).get("name") or own.objective)
    under: dict[str, Any] = {} if "optimizer" in tree.get("training", {}) else dict(own.training)
    if base is not None:
        under |= context_within(base.config)
    layers = ({"training": under}, *layers)
    settings = load_settings(_schema(objective), *layers, overrides=overrides)
    # Before a corpus is read and a tokenizer is trained.
    require_matching_family(own.sized(64, 1) if base is None else base.config, objective)
    return settings, Start(base=base)


def context_within(config: Config) -> dict[str, int]:
    """The usual `training.context_tokens`, or the network's own where that is shorter."""
    usual = TrainingSettings.context_tokens
    return {} if config.max_positions is None else {"context_tokens": min(usual, config.max_positions)}


def _pinned(name: str, out: Path | str | None) -> dict[str, str]:
    """The base and the family in the settings of the run in `out`, where its base is of this name."""
    try:
        saved = None if out is None else RunFolder(out).saved_settings()
    except UsageError:  # damaged: restored when the run is opened
        saved = None
    model = {} if saved is None else saved.get("model", {})
    is_same = re.fullmatch(rf"{re.escape(name)}(@[0-9a-f]{{40}})?", str(model.get("base")))
    return {key: model[key] for key in ("base", "family")} if is_same else {}


@cache
def _schema(objective: str) -> type[RunSettings]:
    settings_class = OBJECTIVES.get(objective).settings_class
    own = [("objective", settings_class, field(default_factory=settings_class))]
    return make_dataclass("RunSettings", own, bases=(RunSettings,), frozen=True, kw_only=True)
