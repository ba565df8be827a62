"""The network of a run: the config that its settings describe, the head that its objective needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from seedbed.base.errors import ConfigError
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.models.family import Config
from seedbed.models.network import FAMILIES, family, is_alike, preset, with_head
from seedbed.nn.config import AttentionConfig, ModelConfig
from seedbed.runs.settings import ModelSettings, sized_fields

__all__ = ["configure", "require_matching_family", "with_head", "with_labels"]
ATTENTION = {f.name for f in fields(AttentionConfig)}  # keys of [model], too
DEFAULT_WIDTH, DEFAULT_DEPTH = 256, 4
STAND_IN_LABELS = ("0", "1")  # of a plan without data


def configure(settings: ModelSettings, *, vocab_size: int, context_tokens: int) -> Config:
    """The config that the settings describe, for a vocabulary and a context."""
    if settings.preset is not None:
        config = preset(f"{settings.family}:{settings.preset}")
        if settings.d_model or settings.num_layers:
            raise ConfigError(
                "model.preset has a width and a depth; leave out model.d_model and model.num_layers"
            )
    else:
        config = family(settings.family).sized(
            settings.d_model or DEFAULT_WIDTH, settings.num_layers or DEFAULT_DEPTH
        )
    changes = sized_fields(settings)
    known = {f.name for f in fields(config)}
    if isinstance(config, ModelConfig):
        known |= ATTENTION
    if unknown := [name for name in changes if name not in known]:
        raise ConfigError(f"the family {settings.family} has no {unknown[0]}; leave model.{unknown[0]} out")
    if "max_positions" in known:
        changes.setdefault("max_positions", context_tokens)
        if changes["max_positions"] < context_tokens:
            raise ConfigError(
                f"training.context_tokens={context_tokens} is more than model.max_positions="
                f"{changes['max_positions']}; raise the latter or leave it out"
            )
    if isinstance(config, ModelConfig):
        own = {name: changes.pop(name) for name in ATTENTION & changes.keys()}
        changes["attention"] = replace(config.attention, **own)
    return replace(config, vocab_size=vocab_size, **changes)


def require_matching_family(config: Config, objective: str, *, has_text: bool = True) -> Config:
    """Return the config; ConfigError if the objective cannot train networks of its shape or head.

    `has_text`: whether the data can train the family's own objective instead.
    """
    chosen = OBJECTIVES.get(objective)
    if config.head.labels and chosen.head_kind is None:
        raise ConfigError(
            f"the objective {objective} trains tokens, but this network's head gives the labels "
            f"{', '.join(config.head.labels[:3])}; take the model without that head"
        )
    if _can_train(config, chosen):
        return config
    own = family(config.family).objective
    others = [name for name in FAMILIES.names() if _can_train(family(name).sized(64, 1), chosen)]
    shapes = " or ".join(f"{'an' if shape[0] == 'e' else 'a'} {shape}" for shape in chosen.shapes)
    if config.shape in chosen.shapes and chosen.head_kind is not None:
        shapes, what = f"{shapes} with a {chosen.head_kind} head", "has no published class with one"
    elif config.shape in chosen.shapes:
        what = f"has the head {config.head.kind!r}"
        shapes = f"{shapes} with a {' or '.join(chosen.heads)} head"
    else:
        what = f"is a{'n' if config.shape[0] == 'e' else ''} {config.shape}"
    advice = f"give --objective {own}, its own, or " if has_text and own != objective else ""
    if own == objective:  # a base without the head of its family's objective
        fitting = [name for name in OBJECTIVES.names() if _can_train(config, OBJECTIVES.get(name))]
        advice = f"train it on records ({', '.join(fitting)}), or " if fitting else ""
    raise ConfigError(
        f"the objective {objective} trains {shapes}, but {config.family} {what}; "
        f"{advice}choose a family of {', '.join(others)}"
    )


def _can_train(config: Config, objective: type[Objective]) -> bool:
    kind = objective.head_kind
    if kind is None:
        return config.shape in objective.shapes and config.head.kind in objective.heads
    return config.shape in objective.shapes and kind in family(config.family).architectures


def with_labels(config: Config, objective: str, labels: Sequence[str]) -> Config:
    """The config with the head of an objective that can train it; unchanged if it has this head."""
    kind = OBJECTIVES.get(objective).head_kind
    if kind is None:
        return config
    assert isinstance(config, ModelConfig)
    head = family(config.family).labelled(kind, tuple(labels))
    return config if is_alike(config.head, head) else replace(config, head=head)
