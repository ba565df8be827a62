"""From a config to a network: which class, which family, which weights."""

from __future__ import annotations

import torch

from seedbed.base.errors import ConfigError, nearest
from seedbed.base.rooms import Room
from seedbed.models.family import Config, Family, Network
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.models.transformer import Transformer
from seedbed.nn.config import ModelConfig

FAMILIES: Room[Family] = Room("seedbed.models.families", "FAMILY")


def family(name: str) -> Family:
    """The family of a name."""
    return FAMILIES.get(name)


def build(config: Config, device: str | torch.device = "cpu") -> Network:
    """The network of a config, its memory not yet filled: `initialize` it, or import weights into it."""
    with torch.device(device):
        return Transformer(config) if isinstance(config, ModelConfig) else RecurrentNetwork(config)


def initialize(module: Network, generator: torch.Generator) -> None:
    """Fill the network with fresh weights as its family publishes them, drawn from `generator` alone."""
    family(module.config.family).initialize(module, generator)


def parameter_count(config: Config) -> int:
    """Parameters of the network, tied ones once, counted without memory."""
    return sum(p.numel() for p in build(config, "meta").parameters())


def preset(name: str) -> Config:
    """The config of `family:size`, `gpt2:124m` for example."""
    family_name, colon, size = name.partition(":")
    chosen = family(family_name)
    if not colon:
        raise ConfigError(
            f"{name!r} names a family without a size; write {family_name}:SIZE, {nearest('', chosen.presets)}"
        )
    return chosen.preset(size)
