"""A few layers of a network, from which the cost of all follows, and a stand-in made of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.base.runtime import Runtime, derive_seed
from seedbed.models.family import Network
from seedbed.models.network import build
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.nn.attention import Attention
from seedbed.nn.config import ModelConfig
from seedbed.nn.stack import Stack
from seedbed.select.compute import gradients_needed

MAX_LAYERS = 3  # of one kind in a try
# Of a network that stands for a wider one; its feed-forward layers have at most so many times its width.
MIN_WIDTH, MOST_WIDE = 256, 8
# Of the random numbers that fill a stand-in's weights, repeated.
DEVIATION, RANDOM_NUMBERS = 0.02, 1_000_003


@dataclass(frozen=True)
class LayerSample:
    """The layers to try: `levels` of the network; each of `tries` has some of them, by index in `levels`.

    A level is the layers with one number in all stacks. The first try has one layer of each kind, and each
    further try adds layers of one kind, `added` of the `others` of that kind in the network.
    """

    levels: tuple[int, ...]
    tries: tuple[tuple[int, ...], ...]
    added: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    def extrapolate(self, costs: Sequence[float]) -> float:
        """The cost of the network from those of the tries."""
        more = zip(costs[1:], self.added, self.others, strict=True)
        return costs[0] + sum(max(0.0, cost - costs[0]) / added * others for cost, added, others in more)


def all_levels(network: Network) -> LayerSample:
    """The whole network, in one try."""
    levels = tuple(range(max(len(layers) for *_, layers in _stacks(network))))
    return LayerSample(levels, (levels,))


def sample_layers(network: Network) -> LayerSample:
    """One layer of each kind, then up to two more of each; one try if these are all layers."""
    kinds: dict[Hashable, list[int]] = {}
    for level, kind in enumerate(_kinds(network)):
        kinds.setdefault(kind, []).append(level)
    chosen = [levels[:MAX_LAYERS] for levels in kinds.values()]
    levels = tuple(sorted(level for some in chosen for level in some))
    if levels == all_levels(network).levels:
        return LayerSample(levels, (levels,))
    several = [some for some in chosen if len(some) > 1]
    first = [some[0] for some in chosen]
    tries = [first, *(first + some[1:] for some in several)]
    return LayerSample(
        levels,
        tuple(tuple(sorted(levels.index(level) for level in some)) for some in tries),
        added=tuple(len(some) - 1 for some in several),
        others=tuple(len(levels) - 1 for levels in kinds.values() if len(levels) > 1),
    )


def _kinds(network: Network) -> list[Hashable]:
    """The kind of each level: its modules and parameters, which of them train, which gradients are needed."""
    needed = gradients_needed(network)
    names = {module: name for name, module in network.named_modules()}

    def kind(layer: nn.Module) -> Hashable:
        found: list[Hashable] = []
        for module in layer.modules():
            own = module.named_parameters(recurse=False)
            found.append((type(module), needed[names[module]]))
            found += [(name, p.shape, p.dtype, p.requires_grad) for name, p in own]
        return tuple(found)

    stacks = [[kind(layer) for layer in layers] for *_, layers in _stacks(network)]
    depth = max(map(len, stacks))
    return [tuple(stack[level] if level < len(stack) else None for stack in stacks) for level in range(depth)]


def _stacks(network: Network) -> list[tuple[nn.Module, str, nn.ModuleList]]:
    """The lists of layers, each with its parent and its attribute's name."""
    names = {Stack: "blocks", RecurrentNetwork: "layers"}
    return [
        (module, name, getattr(module, name))
        for module in network.modules()
        for kind, name in names.items()
        if isinstance(module, kind)
    ]


@contextmanager
def only_layers(network: Network, levels: Sequence[int]) -> Iterator[None]:
    """Reduce a network to some of its layers inside the block."""
    stacks = _stacks(network)
    for parent, name, layers in stacks:
        setattr(parent, name, nn.ModuleList(layers[level] for level in levels if level < len(layers)))
    try:
        yield
    finally:
        for parent, name, layers in stacks:
            setattr(parent, name, layers)


def outline_of(network: Network) -> Network:
    """A copy on the meta device, without memory; frozen parts stay frozen."""
    copies: dict[int, Any] = {}  # deepcopy's memo: copies by the identity of the original
    for parameter in network.parameters():
        copies[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    copies |= {id(buffer): buffer.to("meta") for buffer in network.buffers()}
    return deepcopy(network, copies).train()


def narrower(network: Network, vocab_size: int) -> Network | None:
    """The network on the meta device with at most `vocab_size` tokens, or else half as wide.

    None if it cannot be narrower. Heads keep their size, and parameters that are frozen stay frozen.
    """
    config = network.config
    width = config.d_model // 2 if config.d_model >= 2 * MIN_WIDTH else config.d_model
    # The feed-forward layers of T5's largest have 64 times its width.
    is_wide = isinstance(config, ModelConfig) and config.d_ff > MOST_WIDE * config.d_model
    if config.vocab_size > vocab_size:
        config = replace(config, vocab_size=vocab_size)
    elif width == config.d_model and not is_wide:
        return None
    elif isinstance(config, ModelConfig):
        heads = max(1, config.num_heads // 2)
        kv_heads = next(n for n in range(max(1, min(heads, config.kv_heads // 2)), 0, -1) if heads % n == 0)
        own = replace(config.attention, head_dim=config.d_head, num_kv_heads=kv_heads)
        encoder = config.encoder
        if encoder is not None:
            encoder_heads = max(kv_heads, encoder.num_heads // 2 // kv_heads * kv_heads)
            encoder = replace(encoder, num_heads=encoder_heads, d_ff=encoder.d_ff // 2)
        sizes: dict[str, Any] = {"d_model": width, "num_heads": heads, "d_ff": config.d_ff // 2}
        config = replace(config, **sizes, attention=own, encoder=encoder)
    else:
        config = replace(config, d_model=width)
    smaller = build(config, "meta")
    learns = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    for name, parameter in smaller.named_parameters():
        parameter.requires_grad_(learns.get(name, True))
    return smaller


def stand_in(network: Network, levels: Sequence[int], runtime: Runtime) -> Network:
    """A copy of some layers with small random weights on the runtime's device; frozen parts stay frozen."""
    random = torch.empty(RANDOM_NUMBERS, device=runtime.device)
    random.normal_(0, DEVIATION, generator=torch.Generator(runtime.device).manual_seed(derive_seed(0)))
    with only_layers(network, levels):
        tables: dict[str, Tensor] = {}
        if any(buffer.is_meta for buffer in network.buffers()):  # one layer computes the tables of positions
            tables |= build(replace(network.config, num_layers=1)).named_buffers()
        copies: dict[int, Any] = {}  # deepcopy's memo: copies by the identity of the original
        for parameter in network.parameters():
            numbers = _filled(parameter, random)
            copies[id(parameter)] = nn.Parameter(numbers, requires_grad=parameter.requires_grad)
        for name, buffer in network.named_buffers():
            table = tables.get(name, buffer)
            filled = _filled(table, random) if table.is_meta else table.to(runtime.device, copy=True)
            copies[id(buffer)] = filled
        copy = deepcopy(network, copies)
    for _, _, layers in _stacks(copy):
        copy.config = replace(copy.config, num_layers=len(layers))  # at last the decoder's
        for number, layer in enumerate(layers):
            for module in layer.modules():
                if isinstance(module, Attention):
                    module.layer = number  # where its keys are in a decode state
    return copy.train()


def _filled(like: Tensor, random: Tensor) -> Tensor:
    """A tensor of the same shape and type filled with the random numbers, repeated; integers are 0."""
    numbers = torch.empty(like.shape, dtype=like.dtype, device=random.device)
    if not like.is_floating_point():
        return numbers.zero_()
    for chunk in numbers.view(-1).split(len(random)):
        chunk.copy_(random[: len(chunk)])
    return numbers
