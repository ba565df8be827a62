"""The few layers of a network from which the cost of all follows, and a stand-in that consists of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.base.runtime import Runtime
from seedbed.models.family import Network
from seedbed.models.network import build
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.nn.attention import Attention
from seedbed.nn.stack import Stack
from seedbed.select.compute import gradients_needed

MOST_LAYERS = 3  # of a kind that are tried
DEVIATION, DRAWN_NUMBERS = 0.02, 1_000_003  # of the numbers that fill a stand-in's weights, over and over


@dataclass(frozen=True)
class Sample:
    """Which layers are tried: `levels` of the network, and in each of `tries` some of those, by their place.

    A level is the layers of one number in all stacks, in an encoder-decoder one of each. Those of a kind cost
    the same: the first try has one of each kind, and each other try has more of one kind, `added` of the
    `others` that there are.
    """

    levels: tuple[int, ...]
    tries: tuple[tuple[int, ...], ...]
    added: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    def whole(self, costs: Sequence[float]) -> float:
        """The cost of the network from those of the tries."""
        more = zip(costs[1:], self.added, self.others, strict=True)
        return costs[0] + sum(max(0.0, cost - costs[0]) / added * others for cost, added, others in more)


def all_levels(network: Network) -> Sample:
    """The network as it is, in one try."""
    levels = tuple(range(max(len(layers) for *_, layers in _stacks(network))))
    return Sample(levels, (levels,))


def sample(network: Network) -> Sample:
    """One layer of each kind, then up to two more of each; all of a network that has no more than those."""
    kinds: dict[Hashable, list[int]] = {}
    for level, kind in enumerate(_kinds(network)):
        kinds.setdefault(kind, []).append(level)
    chosen = [levels[:MOST_LAYERS] for levels in kinds.values()]
    levels = tuple(sorted(level for some in chosen for level in some))
    if levels == all_levels(network).levels:
        return Sample(levels, (levels,))
    several = [some for some in chosen if len(some) > 1]
    first = [some[0] for some in chosen]
    tries = [first, *(first + some[1:] for some in several)]
    return Sample(
        levels,
        tuple(tuple(sorted(levels.index(level) for level in some)) for some in tries),
        added=tuple(len(some) - 1 for some in several),
        others=tuple(len(levels) - 1 for levels in kinds.values() if len(levels) > 1),
    )


def _kinds(network: Network) -> list[Hashable]:
    """What the layers of each level consist of, what of it trains, and where gradients pass through."""
    needed = gradients_needed(network)
    names = {module: name for name, module in network.named_modules()}

    def kind(layer: nn.Module) -> Hashable:
        return tuple(
            (
                type(module),
                needed[names[module]],
                *(
                    (name, p.shape, p.dtype, p.requires_grad)
                    for name, p in module.named_parameters(recurse=False)
                ),
            )
            for module in layer.modules()
        )

    stacks = [[kind(layer) for layer in layers] for *_, layers in _stacks(network)]
    depth = max(map(len, stacks))
    return [tuple(stack[level] if level < len(stack) else None for stack in stacks) for level in range(depth)]


def _stacks(network: Network) -> list[tuple[nn.Module, str, nn.ModuleList]]:
    """The lists of layers: what each is an attribute of, and its name there."""
    names = {Stack: "blocks", RecurrentNetwork: "layers"}
    return [
        (module, name, getattr(module, name))
        for module in network.modules()
        for kind, name in names.items()
        if isinstance(module, kind)
    ]


@contextmanager
def only_layers(network: Network, levels: Sequence[int]) -> Iterator[None]:
    """Let a network consist of some of its layers."""
    stacks = _stacks(network)
    for parent, name, layers in stacks:
        setattr(parent, name, nn.ModuleList(layers[level] for level in levels if level < len(layers)))
    try:
        yield
    finally:
        for parent, name, layers in stacks:
            setattr(parent, name, layers)


def stand_in(network: Network, levels: Sequence[int], runtime: Runtime) -> Network:
    """A copy of some layers with small random weights on the runtime's device; what is frozen stays frozen.

    The network itself, which may be on the meta device, keeps its weights, gradients and mode.
    """
    drawn = torch.empty(DRAWN_NUMBERS, device=runtime.device)
    drawn.normal_(0, DEVIATION, generator=runtime.generator(0))
    with only_layers(network, levels):
        tables = _tables(network)
        copies: dict[int, Any] = {}  # what deepcopy takes as copied already, by the identity of the original
        for parameter in network.parameters():
            numbers = _filled(parameter, drawn)
            copies[id(parameter)] = nn.Parameter(numbers, requires_grad=parameter.requires_grad)
        for name, buffer in network.named_buffers():
            known = tables.get(name, buffer)
            copies[id(buffer)] = (
                _filled(known, drawn) if known.is_meta else known.to(runtime.device, copy=True)
            )
        copy = deepcopy(network, copies)
    for _, _, layers in _stacks(copy):
        copy.config = replace(copy.config, num_layers=len(layers))  # in the end, the decoder's
        for number, layer in enumerate(layers):
            for module in layer.modules():
                if isinstance(module, Attention):
                    module.layer = number  # where its keys are in a decode state
    return copy.train()


def _filled(like: Tensor, drawn: Tensor) -> Tensor:
    """A tensor of the same shape and type with the drawn numbers, over and over; integers are 0."""
    numbers = torch.empty(like.shape, dtype=like.dtype, device=drawn.device)
    if not like.is_floating_point():
        return numbers.zero_()
    for part in numbers.view(-1).split(len(drawn)):
        part.copy_(drawn[: len(part)])
    return numbers


def _tables(network: Network) -> dict[str, Tensor]:
    """The tables of positions of a network without memory, made by a real one of one layer."""
    if not any(buffer.is_meta for buffer in network.buffers()):
        return {}
    return dict(build(replace(network.config, num_layers=1)).named_buffers())
