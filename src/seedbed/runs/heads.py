"""The head with labels that an objective puts on a network: on a fresh one, or on a base's body."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch

from seedbed.base.errors import SeedbedWarning
from seedbed.data.objective import OBJECTIVES
from seedbed.models.family import Config, Network
from seedbed.models.network import build, family, initialize
from seedbed.models.transformer import Transformer
from seedbed.nn.config import HeadConfig, ModelConfig

BODY = ("embed", "encoder", "decoder", "pooler")
STAND_IN_LABELS = ("0", "1")  # of a plan, where nothing is known of the data


def with_labels(config: Config, objective: str, labels: Sequence[str]) -> Config:
    """The config with the head that an objective, which must fit it, puts on; itself where it is there."""
    kind = OBJECTIVES.get(objective).head_kind
    if kind is None:
        return config
    assert isinstance(config, ModelConfig)
    head = family(config.family).labelled(kind, tuple(labels))
    return config if _is_alike(config.head, head) else replace(config, head=head)


def on_body(base: Network, head: HeadConfig, generator: torch.Generator) -> Network:
    """The base where it has this head, else its body, unchanged, with a head drawn from `generator`.

    Warns of labels that are replaced. A head without labels is the base's own.
    """
    if not head.labels or _is_alike(base.config.head, head):
        return base
    if known := base.config.head.labels:
        warnings.warn(
            f"the base's head gives {len(known)} labels ({', '.join(known[:3])} ...); it is replaced by a "
            f"fresh one for the {len(head.labels)} of the data ({', '.join(head.labels[:3])} ...)",
            SeedbedWarning,
            stacklevel=2,
        )
    assert isinstance(base, Transformer)
    fresh = build(replace(base.config, head=head))
    initialize(fresh, generator)
    for name in BODY:
        if getattr(fresh, name) is not None and getattr(base, name) is not None:
            setattr(fresh, name, getattr(base, name))
    return fresh


def _is_alike(one: HeadConfig, other: HeadConfig) -> bool:
    """Whether two heads give the same labels in the same way."""
    return replace(one, pooler=False, dense=False) == replace(other, pooler=False, dense=False)
