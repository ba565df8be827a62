"""The config that the settings of a run ask for."""

from __future__ import annotations

from dataclasses import fields, replace

from seedbed.base.errors import ConfigError
from seedbed.models.family import Config
from seedbed.models.network import family, preset
from seedbed.nn.config import AttentionConfig, ModelConfig
from seedbed.runs.settings import ModelSettings, sized_fields

ATTENTION = {f.name for f in fields(AttentionConfig)}  # keys of [model] as the others are
DEFAULT_WIDTH, DEFAULT_DEPTH = 256, 4


def configure(settings: ModelSettings, *, vocab_size: int, context_tokens: int) -> Config:
    """The config that the settings ask for, over a vocabulary and a context."""
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
    if foreign := [name for name in changes if name not in known]:
        raise ConfigError(f"the family {settings.family} has no {foreign[0]}; leave model.{foreign[0]} out")
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
