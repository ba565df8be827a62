"""Which networks an objective can train."""

from __future__ import annotations

from seedbed.base.errors import ConfigError
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.models.family import Config
from seedbed.models.network import FAMILIES, family


def require_matching_family(config: Config, objective: str) -> Config:
    """Refuse an objective that cannot train networks of this shape or head -> the config."""
    chosen = OBJECTIVES.get(objective)
    if config.head.labels and chosen.head_kind is None:
        raise ConfigError(
            f"the objective {objective} trains tokens, but this network's head gives the labels "
            f"{', '.join(config.head.labels[:3])}; take the model without that head"
        )
    if _fits(config, chosen):
        return config
    own = family(config.family).objective
    others = [name for name in FAMILIES.names() if _fits(family(name).sized(64, 1), chosen)]
    shapes = " or ".join(f"{'an' if shape[0] == 'e' else 'a'} {shape}" for shape in chosen.shapes)
    if config.shape in chosen.shapes and chosen.head_kind is not None:
        shapes, what = f"{shapes} with a {chosen.head_kind} head", "has no published class with one"
    elif config.shape in chosen.shapes:
        shapes, what = (
            f"{shapes} with a {' or '.join(chosen.heads)} head",
            f"has the head {config.head.kind!r}",
        )
    else:
        what = f"is a{'n' if config.shape[0] == 'e' else ''} {config.shape}"
    raise ConfigError(
        f"the objective {objective} trains {shapes}, but {config.family} {what}; leave the objective out for "
        f"its own, {own}, or choose a family of {', '.join(others)}"
    )


def _fits(config: Config, objective: type[Objective]) -> bool:
    kind = objective.head_kind
    if kind is None:
        return config.shape in objective.shapes and config.head.kind in objective.heads
    return config.shape in objective.shapes and kind in family(config.family).architectures
