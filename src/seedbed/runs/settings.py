"""The settings of a run, as in `settings.toml`, a user's TOML file and `--set`; recipes. Loads no torch."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import Any

from seedbed.base.arguments import choice_of
from seedbed.base.errors import ConfigError, nearest
from seedbed.base.plugins import PluginPackage
from seedbed.data.settings import DataSettings
from seedbed.evaluation.task import TaskSettings
from seedbed.text.training import KINDS
from seedbed.training.settings import TrainingSettings

# Found on one text and one seed (docs/LOG.md, 2026-11-24).
_MUON = {
    "optimizer": "muon",
    "learning_rate": 0.01,
    "matrix_learning_rate": 0.02,
    "beta1": 0.8,
    "beta2": 0.95,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "schedule": "wsd",
    "cooldown_fraction": 1.0,
    "min_learning_rate_ratio": 0.0,
    "warmup_steps": 20,
}
RECIPES: dict[str, dict[str, Any]] = {
    # Muon, norms without parameters, squared ReLU, small batches: see families/seedling.py.
    "fast": {
        "model": {"family": "seedling", "d_model": 96, "num_layers": 4},
        "training": {"batch_tokens": 1024, "context_tokens": 128} | _MUON,
    },
    # nanoGPT's published setting for a CPU: small GPT-2, AdamW, no dropout.
    "classic": {
        "model": {"family": "gpt2", "d_model": 128, "num_layers": 4, "num_heads": 4, "dropout": 0.0},
        "training": {
            "batch_tokens": 768,
            "context_tokens": 64,
            "num_steps": 2000,
            "evaluate_every_steps": 250,
            "learning_rate": 1e-3,
            "min_learning_rate_ratio": 0.1,
            "warmup_steps": 100,
            "beta2": 0.99,
            "weight_decay": 0.1,
        },
    },
}
BASE_TYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The `[model]` table: a family at a published size or at a width and depth, or a base to start from.

    Fields that are not set have the proportions of the family.
    """

    family: str = "seedling"  # line of models [a file of seedbed.models.families]
    preset: str | None = None  # published size of the family, as 124m of gpt2
    base: str | None = None  # model to start from, also --base: a folder, package:NAME, org/name
    # Type of a base's weights beside an adapter; not set: float32, twice the memory. [one of BASE_TYPES]
    dtype: str | None = None
    d_model: int | None = None  # width; not set: 256 [1 or more]
    num_layers: int | None = None  # depth; not set: 4 [1 or more]
    num_heads: int | None = None  # attention heads per layer [1 or more]
    num_kv_heads: int | None = None  # heads of keys and values: grouped-query attention [1 or more]
    head_dim: int | None = None  # size of a head; not set: d_model / num_heads [1 or more]
    d_ff: int | None = None  # width of the feed-forward layer [1 or more]
    max_positions: int | None = None  # longest context of the model; not set: context_tokens [1 or more]
    tie_embeddings: bool | None = None  # use the embedding as the output layer too
    dropout: float | None = None  # share of activations set to 0 in training [0 or more and below 1]

    def __post_init__(self) -> None:
        origins = [name for name in ("preset", "base") if getattr(self, name) is not None]
        sizes = [f.name for f in fields(self)[4:] if getattr(self, f.name) is not None]
        if len(origins) == 2 or (self.base is not None and sizes):
            names = ", ".join(f"model.{name}" for name in (*origins, *sizes))
            raise ConfigError(f"{names} contradict each other: a base has its own size; keep one of them")
        if self.dtype is not None:
            choice_of("model.dtype", self.dtype, BASE_TYPES)
        for name in ("d_model", "num_layers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"model.{name}={value} is not allowed: choose 1 or more")


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """The `[tokenizer]` table: train one on the training documents, or load one from a folder.

    A trained one has the special tokens of the model's family.
    """

    kind: str | None = None  # algorithm; not set: that of the family [one of KINDS]
    vocab_size: int = 4096  # maximum number of tokens, special tokens included [1 or more]
    path: str | None = None  # folder of a tokenizer to use, also --tokenizer; not set: train one

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise ConfigError(f"tokenizer.kind={self.kind!r} is unknown; {nearest(self.kind, KINDS)}")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """All settings of a run; `objective` and `peft` have the keys of the plug-in that they name.

    With a `task` the records of the data are its records, rendered as an evaluation renders them.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    data: DataSettings
    objective: Any
    peft: Any = None  # None: all weights are trained
    training: TrainingSettings = field(default_factory=TrainingSettings)
    task: TaskSettings | None = None

    def __post_init__(self) -> None:
        # Refuse an unknown name before a corpus is read and a tokenizer trained.
        PluginPackage[Any]("seedbed.models.families", "FAMILY").require(self.model.family)
        PluginPackage[Any]("seedbed.training.optimizers", "OPTIMIZER").require(self.training.optimizer)


def sized_fields(settings: ModelSettings) -> dict[str, Any]:
    """The fields of a config that the settings set, except width and depth."""
    names = ("num_heads", "num_kv_heads", "head_dim", "d_ff", "max_positions", "tie_embeddings", "dropout")
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


def decided(settings: RunSettings, **training: Any) -> RunSettings:
    """The settings with the decisions of the machine before step 1."""
    return replace(settings, training=replace(settings.training, **training))


def recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe, as the tables of a TOML file."""
    choice_of("recipe", name, RECIPES)
    return deepcopy(RECIPES[name])
