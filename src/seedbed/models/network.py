"""From a config to a network: which class, which family, which weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from seedbed.base.errors import BundleError, ConfigError, SeedbedWarning, UsageError, nearest
from seedbed.base.plugins import PluginPackage
from seedbed.models.family import Config, Family, Network
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.models.transformer import Transformer
from seedbed.models.weights import export_weights, import_weights
from seedbed.nn.config import HeadConfig, ModelConfig, RecurrentConfig
from seedbed.nn.linear import named_parts
from seedbed.text.tokenizer import Tokenizer

MAX_TABLES = 1 << 24  # numbers in tables of positions that a network may have beyond its file's
BODY = ("embed", "encoder", "decoder", "pooler")  # modules that a network with another head keeps
FAMILIES: PluginPackage[Family] = PluginPackage("seedbed.models.families", "FAMILY")
family = FAMILIES.get  # by its name


def build(config: Config, device: str | torch.device = "cpu") -> Network:
    """The network of a config with uninitialised memory: `initialize` it, or import weights into it."""
    with torch.device(device):
        return Transformer(config) if isinstance(config, ModelConfig) else RecurrentNetwork(config)


def initialize(module: Network, generator: torch.Generator) -> None:
    """Fill the network with the initial weights of its family, with random numbers from `generator` only."""
    family(module.config.family).initialize(module, generator)


def import_tensors(module: Network, theirs: Mapping[str, Tensor]) -> None:
    """Fill the network with the tensors of its family's published file. Errors: BundleError, UsageError."""
    parts = dict(named_parts(module))
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    if computed := [name for name, part in parts.items() if part.untyped_storage().data_ptr() not in own]:
        raise UsageError(
            f"{computed[0]} is computed by a wrapper and cannot be loaded; load the network's weights first, "
            "then wrap its modules"
        )
    import_weights(theirs, parts, **_translation(module.config))


def export_tensors(module: Network) -> dict[str, Tensor]:
    """The network's tensors under its family's published names and in their storage."""
    return export_weights(dict(named_parts(module)), **_translation(module.config))


def _translation(config: Config) -> dict[str, Any]:
    rules, num_heads = family(config.family).rules(config), getattr(config, "num_heads", 1)
    return {"rules": rules, "num_layers": depth(config), "num_heads": num_heads}


def depth(config: Config) -> int:
    """Layers of the deeper stack."""
    if isinstance(config, RecurrentConfig):
        return config.num_layers
    return max(config.num_layers, config.encoder_config.num_layers)


def parameter_count(config: Config) -> int:
    """The number of parameters, tied ones counted once, without allocating them."""
    return sum(p.numel() for p in build(config, "meta").parameters())


def require_plausible(config: Config, num_tensors: int, num_held: int, unit: str) -> None:
    """Refuse a config that needs more than the file has, before any memory is allocated.

    `num_held` counts the weights in `unit`: numbers, or bytes, of which each number has at least one.
    """
    if (layers := depth(config)) > num_tensors:
        expected, found = f"{layers} layers", f"{num_tensors} tensors"
    else:
        try:
            module = build(config, "meta")
            tables = sum(table.numel() for table in module.buffers())  # of positions, which are in no file
            num_parameters = sum(p.numel() for p in module.parameters()) + max(0, tables - MAX_TABLES)
        except RuntimeError:  # torch cannot even count the bytes
            num_parameters = 2**63
        expected, found = f"{num_parameters} parameters", f"{num_held} {unit}"
        if num_parameters <= num_held:
            return
    raise BundleError(
        f"the config needs {expected}, but the weights have {found}; the file is cut or is of another config"
    )


def require_vocabulary(
    tokenizer: Tokenizer | None, config: Config, *, allow_added: bool = False
) -> list[str]:
    """Refuse a tokenizer with more tokens than the network's vocabulary; fewer are allowed.

    With `allow_added` added ones may be beyond it, but not the one that ends answers, as Llama 2's first pad
    token was -> their names; a text that uses one is refused when it is read.
    """
    if tokenizer is None or tokenizer.vocab_size <= config.vocab_size:
        return []
    beyond = range(config.vocab_size, tokenizer.vocab_size)
    if allow_added and all(i in tokenizer.added_tokens and i != tokenizer.eos_id for i in beyond):
        return [tokenizer.added_tokens[i].content for i in beyond]
    raise BundleError(
        f"the tokenizer has {tokenizer.vocab_size} tokens, but the network has {config.vocab_size}; use the "
        f"tokenizer that the network was trained with, or a vocab_size of at least {tokenizer.vocab_size}"
    )


def with_head(base: Network, head: HeadConfig, generator: torch.Generator) -> Network:
    """The base if it has this head or the head has no labels; else its body with a new head.

    The weights of the new head are sampled from `generator`. Warns of labels that are replaced.
    """
    if not head.labels or is_alike(base.config.head, head):
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
    _take_body(new, base)
    return new


def with_empty_head(base: Network, head: HeadConfig) -> Network:
    """The same with uninitialised memory in the new modules, to be filled; nothing else is new."""
    if not head.labels or is_alike(base.config.head, head):
        return base
    assert isinstance(base, Transformer)
    new = build(replace(base.config, head=head), "meta")
    assert isinstance(new, Transformer)
    _take_body(new, base)
    for name, own in new.named_children():
        if getattr(base, name) is not own:
            own.to_empty(device=base.device)
    return new.train(base.training)


def _take_body(new: Network, base: Network) -> None:
    for name in BODY:
        if getattr(new, name) is not None and getattr(base, name) is not None:
            setattr(new, name, getattr(base, name))


def is_alike(one: HeadConfig, other: HeadConfig) -> bool:
    """Whether two heads give the same labels in the same way."""
    return replace(one, pooler=False, dense=False) == replace(other, pooler=False, dense=False)


def decoder_start_id(config: Config) -> int | None:
    """The first token of an encoder-decoder's decoder, as in its family's files; None in other shapes."""
    if config.shape != "encoder-decoder":
        return None
    return int(family(config.family).write_config(config)["decoder_start_token_id"])


def preset(name: str) -> Config:
    """The config of `family:size`, `gpt2:124m` for example."""
    family_name, colon, size = name.partition(":")
    chosen = family(family_name)
    if not colon:
        raise ConfigError(
            f"{name!r} names a family without a size; write {family_name}:SIZE, {nearest('', chosen.presets)}"
        )
    if size not in chosen.presets:
        raise ConfigError(f"{family_name} has no preset {size!r}; {nearest(size, chosen.presets)}")
    return chosen.presets[size]
