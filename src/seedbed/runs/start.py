"""The start of a run: its settings, from flags, files and recipes, and its weights, new or from a base."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from seedbed.base.arguments import brief, path_of, texts_of
from seedbed.base.errors import ConfigError, SeedbedWarning, UsageError
from seedbed.base.notices import Notify, silent
from seedbed.base.runtime import derive_seed
from seedbed.base.settings import layered, load_settings, split_override, to_tree
from seedbed.data.labels import chat_template
from seedbed.data.objective import OBJECTIVES
from seedbed.data.recognition import recognised
from seedbed.data.settings import DataSettings
from seedbed.evaluation.task import TaskSettings
from seedbed.hub.base import Base
from seedbed.models.adapter import METHODS
from seedbed.models.family import Config, Network
from seedbed.models.network import build, decoder_start_id, family, initialize
from seedbed.runs.network import configure, require_matching_family, with_head, with_labels
from seedbed.runs.settings import ModelSettings, RunSettings, TokenizerSettings
from seedbed.runs.settings import recipe as named_recipe
from seedbed.runs.task_data import task_learns_from, with_fields
from seedbed.runs.tuning import RATES, adapting, default_tables, peft_method, with_base_type
from seedbed.text.default_template import with_default_template
from seedbed.text.special_form import BLANK_KEY
from seedbed.text.tokenizer import Tokenizer
from seedbed.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of a run: new weights, or those of a base, which is read once.

    `modify` changes the network before it trains: it freezes parameters or replaces modules. It must do the
    same to every network of one config, because the planner calls it with one on the meta device.
    """

    base: Base | None = None
    modify: Callable[[Network], None] | None = None
    tokenizer: Tokenizer | None = None  # that of the base, with the chat template that is trained
    dtype: str = "float32"  # of the base's weights

    def config(self, settings: RunSettings, *, vocab_size: int, labels: Sequence[str] = ()) -> Config:
        """The config of the base or of the settings, with a head for the labels, if any."""
        objective = settings.objective.name
        if self.base is not None:
            config = require_matching_family(self.base.config, objective)
        else:
            context = settings.training.context_tokens
            config = configure(settings.model, vocab_size=vocab_size, context_tokens=context)
        return with_labels(config, objective, labels)

    def labels(self, objective: str) -> tuple[str, ...]:
        """The labels of the base's head; none if the objective has another kind of head."""
        if self.base is None or self.base.config.head.kind != OBJECTIVES.get(objective).head_kind:
            return ()
        return self.base.config.head.labels

    def decoder_start_id(self, config: Config) -> int | None:
        """The first token of a decoder after an encoder, from the files of the base or from its family."""
        own = decoder_start_id(config)
        named = {} if self.base is None else self.base.named_tokens
        return own if own is None else named.get("decoder_start_token_id", own)

    def generation(self, objective: str) -> dict[str, Any]:
        """The generation settings of the bundle: the tokens of the base, and the token for a blank."""
        named: dict[str, Any] = {} if self.base is None else dict(self.base.named_tokens)
        before = None if self.base is None else self.base.generation.get(BLANK_KEY)
        blank = OBJECTIVES.get(objective).blank() or before
        return named if blank is None else named | {BLANK_KEY: blank}

    def network(self, config: Config, *, seed: int) -> Network:
        """The network to train: that of the base, or one with weights sampled from the seed."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
        if self.base is not None:
            module = with_head(self.base.network(dtype=self.dtype), config.head, generator)
        else:
            module = build(config)
            initialize(module, generator)
        return self._modified(module)

    def outline(self, config: Config) -> Network:
        """The same network on the meta device, without memory, for a plan."""
        return self._modified(build(config, "meta").to(getattr(torch, self.dtype)))

    def _modified(self, module: Network) -> Network:
        if self.modify is not None:
            self.modify(module)
        return module


def run_settings(
    data: str,
    *,
    out: Path | str | None = None,
    family: str | None = None,
    base: str | None = None,
    recipe: str | None = None,
    settings_file: Path | None = None,
    overrides: Sequence[str] = (),
    steps: int | None = None,
    budget_seconds: float | None = None,
    tokenizer: str | None = None,
    objective: str | None = None,
    peft: str | None = None,
    task: str | Path | TaskSettings | None = None,
    notify: Notify = silent,
) -> tuple[RunSettings, Start]:
    """The settings of a run and its start: flags override the TOML file, which overrides the recipe.

    With a base, a recipe sets neither a size nor learning rates. A run in `out` that can resume keeps the
    commit of its base. `notify` gets what the data were found to be.
    """
    if steps is not None and budget_seconds is not None:
        raise ConfigError("--steps and --budget both say how long to train; give one of them")
    overrides = texts_of("overrides", overrides)
    _refuse_contradictions(data, out, base, overrides)
    flags: dict[str, dict[str, Any]] = {"data": {"train": data}}
    for table, key, value in (
        ("model", "family", family),
        ("model", "base", base),
        ("training", "num_steps", steps),
        ("training", "budget_seconds", budget_seconds),
        ("tokenizer", "path", tokenizer),
        ("objective", "name", objective),
        ("peft", "method", peft),
    ):
        if value is not None:
            flags.setdefault(table, {})[key] = value
    if task is not None:
        flags["task"] = to_tree(TaskSettings.of(task))
    layers: list[Mapping[str, Any] | Path] = (
        [] if settings_file is None else [path_of("settings_file", settings_file)]
    )
    if recipe is not None:
        tables = named_recipe(recipe)
        # Fewer steps than the recipe's warm-up have one of their own.
        if steps is not None and tables["training"].get("warmup_steps", 0) >= steps:
            tables["training"].pop("warmup_steps")
        if _tables(*layers, flags, overrides=overrides).get("model", {}).get("base") is not None:
            # The base has a size, and rates of its own.
            tables = {"training": {key: of for key, of in tables["training"].items() if key not in RATES}}
        layers.insert(0, tables)
    return load_run(*layers, flags, overrides=list(overrides), out=out, notify=notify)


def _refuse_contradictions(
    data: str, out: Path | str | None, base: str | None, overrides: Sequence[str]
) -> None:
    """Refuse two bases, and a run in the folder of its data."""
    set_base = dict(map(split_override, overrides)).get(("model", "base"))
    if None not in (base, set_base) and base != set_base:
        raise ConfigError(f"--base {base} contradicts --set model.base={set_base}; keep one of them")
    place = path_of("data", data).expanduser().resolve()
    if out is not None and path_of("out", out).resolve().is_relative_to(place):
        raise ConfigError(
            f"--out {out} is in the data folder {data}, whose next run would read it as data; choose a "
            "folder outside of it"
        )


def load_run(
    *layers: Mapping[str, Any] | Path,
    overrides: Sequence[str] = (),
    out: Path | str | None = None,
    plans: bool = False,
    notify: Notify = silent,
) -> tuple[RunSettings, Start]:
    """The settings of a run and its start, from layers of settings; a later one overrides the earlier.

    `[objective]` has the keys of the objective that it names, or else of the one that the records of the data
    say, or of the family's for text. Unless a layer names an optimizer, the training settings of the family
    are the defaults; with a base, TUNING_SHARE of their learning rates, and TUNING_BATCH_TOKENS. A base is
    found and read here, and nowhere else in a run; the settings name the commit of one on the hub, and the
    fields of the records. `plans`: a network from scratch may have an adapter, to see its cost.
    """
    tree = _tables(*layers, overrides=overrides)
    method = peft_method(
        tree.get("peft", {}), has_base=plans or tree.get("model", {}).get("base") is not None
    )
    base, pinned = _open_base(tree, out, notify)
    if base is not None:
        layers = (*layers, {"model": pinned})
        overrides = [each for each in overrides if each.partition("=")[0].strip() != "model.base"]
    named = tree.get("model", {}).get("family") or ModelSettings.family
    own = family(str(named) if base is None else base.config.family)
    named_objective = tree.get("objective", {}).get("name")
    objective = named_objective or _recognised_objective(tree, overrides, base, own.objective)
    learns_from = OBJECTIVES.get(objective).learns_from
    config = own.sized(64, 1) if base is None else base.config
    is_tuning = base is not None or method is not None
    how: dict[str, Any] = {"method": method, "is_tuning": is_tuning, "is_text": learns_from == "text"}
    first = default_tables(own.training, config, tree.get("training", {}), **how)
    settings = load_settings(_schema(objective, method), first, *layers, overrides=overrides)
    settings = settings if method else replace(settings, peft=None)
    # Before a corpus is read and a tokenizer is trained.
    settings = with_fields(settings, learns_from)
    data, title = settings.data, settings.task and f"the task {settings.task.title}"
    fields = " and ".join(filter(None, (data.input, data.target))) or data.text_field or title
    try:
        has_text = data.form in ("text", "labels")
        require_matching_family(config, objective, has_text=has_text)
        tokenizer = _own_tokenizer(tree, base)
        if learns_from == "conversations" and data.form != "text":
            if base is not None and tokenizer is not None:
                tokenizer = with_default_template(tokenizer)
            chat_template(tokenizer)
    except ConfigError as error:
        if named_objective:
            raise
        raise ConfigError(f"the records of {data.train} have {fields}, so {error}") from None
    notify(f"recognised in {data.train}: {fields} -> {objective}")
    settings = with_base_type(settings)
    dtype = settings.model.dtype or "float32"
    return settings, Start(base=base, modify=adapting(settings), tokenizer=tokenizer, dtype=dtype)


def _tables(*layers: Mapping[str, Any] | Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings by table, not checked but for what is read of them before."""
    tree = layered(*layers, overrides=list(overrides))
    for name in ("model", "tokenizer", "data", "objective", "peft", "task", "training"):
        if not isinstance(tree.get(name) or {}, Mapping):
            raise UsageError(f"{name}={brief(tree[name])} is not allowed: give a table, [{name}]")
    for table, key in (("objective", "name"), ("model", "family"), ("model", "base"), ("tokenizer", "path")):
        value = tree.get(table, {}).get(key)
        if not isinstance(value, str | Path | int | None):
            raise UsageError(f"{table}.{key}={brief(value)} is not allowed: give text")
        if key == "path" and value is not None:
            path_of("tokenizer.path", str(value))
    return tree


@dataclass(frozen=True, kw_only=True)
class _DataTable:
    data: DataSettings
    task: TaskSettings | None = None


def _recognised_objective(
    tree: Mapping[str, Any], overrides: Sequence[str], base: Base | None, for_text: str
) -> str:
    """The objective that the records of the data say; instructions are conversations for a chat model."""
    flags = [each for each in overrides if each.partition(".")[0].strip() in ("data", "task")]
    tables = {name: tree[name] for name in ("data", "task") if tree.get(name)}
    table = load_settings(_DataTable, tables, overrides=flags)
    kinds = {OBJECTIVES.get(name).learns_from: name for name in OBJECTIVES.names()}
    chats = kinds["conversations"]
    config = None if base is None or base.tokenizer is None else base.config
    if table.task is not None:
        if config is None:
            raise ConfigError("a task is learned by a model that exists; name one with --base MODEL")
        return kinds[task_learns_from(table.task, config, chats=True)]
    _, learns_from = recognised(table.data)
    if learns_from == "pairs" and config is not None and config.head.kind == "lm":
        learns_from = "conversations" if config.shape in OBJECTIVES.get(chats).shapes else learns_from
    return for_text if learns_from == "text" else kinds[learns_from]


def _own_tokenizer(tree: Mapping[str, Any], base: Base | None) -> Tokenizer | None:
    """The tokenizer of the base, or the one that the settings name."""
    if base is not None and base.tokenizer is not None:
        return base.tokenizer
    path = tree.get("tokenizer", {}).get("path")
    return None if path is None else Tokenizer.load(Path(str(path)))


def _open_base(
    tree: Mapping[str, Any], out: Path | str | None, notify: Notify
) -> tuple[Base | None, dict[str, str]]:
    """The base that the settings name, and its name and family as the settings of the run have them."""
    table = tree.get("model", {})
    if table.get("base") is None:
        return None, {}
    if not str(table["base"]).strip():
        raise ConfigError("model.base is empty; name a model, or leave it out")
    known = _pinned(str(table["base"]), out)
    notify(f"opening the base {table['base']}")
    base = Base.open(known.get("base", str(table["base"])))
    if base.adapter is not None:
        raise ConfigError(
            f"{base.name} is an adapter, which is not trained further; merge it first, with lm.merge() and "
            "lm.save(FOLDER), and give the merged model"
        )
    if table.get("family") not in (None, base.config.family):
        raise ConfigError(
            f"model.family={table['family']} contradicts the base {base.name}, which is a "
            f"{base.config.family}; leave the family out"
        )
    tokenizer, default = tree.get("tokenizer", {}), TokenizerSettings()
    if unused := [k for k in ("kind", "vocab_size") if tokenizer.get(k) not in (None, getattr(default, k))]:
        names = ", ".join(f"tokenizer.{key}" for key in unused)
        warnings.warn(
            f"no effect beside model.base, which has its own tokenizer: {names}", SeedbedWarning, stacklevel=3
        )
    return base, {"family": base.config.family, "base": base.name} | known


def _pinned(name: str, out: Path | str | None) -> dict[str, str]:
    """The base and the family in the settings of the run in `out`, if its base has this name."""
    try:
        saved = None if out is None else RunFolder(out).saved_settings()
    except UsageError:  # damaged: restored when the run is opened
        saved = None
    model = {} if saved is None else saved.get("model", {})
    is_same = re.fullmatch(rf"{re.escape(name)}(@[0-9a-f]{{40}})?", str(model.get("base")))
    return {key: model[key] for key in ("base", "family")} if is_same else {}


@cache
def _schema(objective: str, method: str | None) -> type[RunSettings]:
    classes = {"objective": OBJECTIVES.get(objective).settings_class}
    if method is not None:
        classes["peft"] = METHODS.get(method).settings_class
    own = [(name, own, field(default_factory=own)) for name, own in classes.items()]
    return make_dataclass("RunSettings", own, bases=(RunSettings,), frozen=True, kw_only=True)
