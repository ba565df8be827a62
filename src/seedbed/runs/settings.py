"""The settings of a run: what `settings.toml`, a user's own TOML file and `--set` have in common.

Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from seedbed.base.errors import ConfigError, nearest
from seedbed.base.plugins import PluginPackage
from seedbed.data.prepare import DataSettings
from seedbed.text.training import KINDS
from seedbed.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The `[model]` table: a family at a published size or at a width and depth, or a bundle to start from.

    What is not set has the family's own proportions.
    """

    family: str = "seedling"
    preset: str | None = None
    base: str | None = None
    d_model: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    d_ff: int | None = None
    max_positions: int | None = None  # none: training.context_tokens
    tie_embeddings: bool | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("preset", "base") if getattr(self, name) is not None]
        sizes = [f.name for f in fields(self)[3:] if getattr(self, f.name) is not None]
        if len(given) == 2 or (self.base is not None and sizes):
            asked = ", ".join(f"model.{name}" for name in (*given, *sizes))
            raise ConfigError(f"{asked} contradict each other: a base has its own size; keep one of them")


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """The `[tokenizer]` table: one to train on the training documents, or a folder that holds one.

    A trained one has the control tokens of the model's family.
    """

    kind: str | None = None  # none: the family's own
    vocab_size: int = 4096
    path: str | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise ConfigError(f"tokenizer.kind={self.kind!r} is unknown; {nearest(self.kind, KINDS)}")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """All settings of a pre-training run; `objective` are those of the objective that it names."""

    model: ModelSettings = field(default_factory=ModelSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    data: DataSettings
    objective: Any
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        # A name that is none is refused here, before a corpus is read and a tokenizer trained.
        PluginPackage[Any]("seedbed.models.families", "FAMILY").require(self.model.family)
        PluginPackage[Any]("seedbed.training.optimizers", "OPTIMIZER").require(self.training.optimizer)


def sized_fields(settings: ModelSettings) -> dict[str, Any]:
    """The fields of a config that the settings set, width and depth apart."""
    names = ("num_heads", "num_kv_heads", "head_dim", "d_ff", "max_positions", "tie_embeddings", "dropout")
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


def decided(settings: RunSettings, **training: Any) -> RunSettings:
    """The settings with what the machine decided before step 1 written in."""
    return replace(settings, training=replace(settings.training, **training))
