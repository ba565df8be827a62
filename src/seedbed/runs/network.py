"""The network of a run: the config that its settings describe, the head that its objective needs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import fields, replace

import torch

from seedbed.base.errors import ConfigError, SeedbedWarning
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.models.family import Config, Network
from seedbed.models.network import FAMILIES, build, family, initialize, preset
from seedbed.models.transformer import Transformer
from seedbed.nn.config import AttentionConfig, HeadConfig, ModelConfig
from seedbed.runs.settings import ModelSettings, sized_fields

ATTENTION = {f.name for f in fields(AttentionConfig)}  # keys of [model], too
DEFAULT_WIDTH, DEFAULT_DEPTH = 256, 4
BODY = ("embed", "encoder", "decoder", "pooler")
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
    return config if _is_alike(config.head, head) else replace(config, head=head)


def with_head(base: Network, head: HeadConfig, generator: torch.Generator) -> Network:
    """The base if it has this head or the head has no labels; else its body with a new head.

    The weights of the new head are sampled from `generator`. Warns of labels that are replaced.
    """
    if not head.labels or _is_alike(base.config.head, head):
        return base
    if known := base.config.head.labels:
        warnings.warn(
            f"the base's head gives {len(known)} labels ({', '.join(known[:3])} ...); it is replaced by a "
            f"new one for the {len(head.labels)} of the data ({', '.join(head.labels[:3])} ...)",
            SeedbedWarning,
            stacklevel=2,
        )
    assert isinstance(base, Transformer)
    new = build(replace(base.config, head=head))
    initialize(new, generator)
    for name in BODY:
        if getattr(new, name) is not None and getattr(base, name) is not None:
            setattr(new, name, getattr(base, name))
    return new


def _is_alike(one: HeadConfig, other: HeadConfig) -> bool:
    """Whether two heads give the same labels in the same way."""
    return replace(one, pooler=False, dense=False) == replace(other, pooler=False, dense=False)
