"""Parameters and FLOPs of a network by part; the network may be on the meta device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from seedbed.models.family import Network
from seedbed.nn.attention import Attention
from seedbed.nn.block import FeedForward
from seedbed.nn.linear import Embedding, LinearLike, num_weights
from seedbed.nn.recurrent import RecurrentLayer

PARTS: dict[type[nn.Module], str] = {
    Embedding: "embeddings",
    Attention: "attention",
    FeedForward: "feed_forward",
    RecurrentLayer: "recurrence",
}


def parameters_by_part(network: Network) -> dict[str, int]:
    """Parameters, tied ones once: embeddings, attention, feed_forward, recurrence, output, norms."""
    counts: Counter[str] = Counter()
    embed: object = network.embed
    seen: set[int] = set()

    def count(module: nn.Module, part: str) -> None:
        part = next((name for kind, name in PARTS.items() if isinstance(module, kind)), part)
        if module is embed:
            part = "embeddings"
        elif part == "norms" and isinstance(module, LinearLike):
            part = "output"
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                counts[part] += parameter.numel()
        for child in module.children():
            count(child, part)

    count(network, "norms")
    return dict(counts)


class Shares(NamedTuple):
    """The shares of a network's tokens that are in the source, and at which logits are computed."""

    source: float = 0.0
    targets: float = 1.0


def forward_flops(network: Network, *, row_tokens: int, shares: Shares | None = None) -> dict[str, float]:
    """FLOPs per token of the forward pass by part, on average over a row of `row_tokens`.

    A multiply-add counts as two. Scores count the keys that a token attends to: (row_tokens + 1) / 2 in a
    decoder, the whole row elsewhere. Without `shares`, half of an encoder-decoder's tokens are source.
    """
    flops: dict[str, float] = {}
    for part, forward, _ in _costs(network, row_tokens, shares):
        flops[part] = flops.get(part, 0.0) + forward
    return {part: amount for part, amount in flops.items() if amount}


def training_flops(
    network: Network,
    *,
    num_tokens: int,
    row_tokens: int,
    recomputes: bool = False,
    shares: Shares | None = None,
) -> float:
    """FLOPs of training on `num_tokens` tokens; `recomputes` with checkpointed activations.

    A backward pass costs as much as the forward pass for the weight, if it trains, and for the input.
    """
    costs = list(_costs(network, row_tokens, shares))
    again = sum(forward for part, forward, backward in costs if recomputes and backward and part != "output")
    return num_tokens * (sum(forward + backward for _, forward, backward in costs) + again)


def gradients_needed(network: Network) -> dict[str, bool]:
    """Whether the gradient of a module's input is needed, by name: a module before it trains.

    Modules are in the order of the forward pass; the name "" means the output's input. A norm counts as
    before its matmuls even if it follows them, which may count one gradient too many.
    """
    needed = {}
    source = own = False
    for name, module in network.named_modules():
        trains = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        if not name:  # the network's own parameter is the output's bias
            continue
        if name.startswith("encoder"):
            needed[name] = source
            source |= trains
            own = source if network.config.shape == "encoder" else own
        elif ".cross.kv" in name:
            needed[name] = source
            own |= source | trains
        else:
            # A recurrent layer reads its own states: their gradient is needed if it trains.
            needed[name] = own | (trains and ".recur" in name)
            own |= trains
            source |= trains and name.startswith("embed")
    return needed | {"": own}


def _costs(network: Network, row_tokens: int, shares: Shares | None) -> Iterator[tuple[str, float, float]]:
    """The part of each matmul, of the scores and of the tied output: forward and backward FLOPs per token."""
    config = network.config
    both = config.shape == "encoder-decoder"
    shares = shares or (Shares(0.5, 0.5) if both else Shares())
    needed = gradients_needed(network)
    modules = dict(network.named_modules())
    parts = {name: part for name, m in modules.items() for kind, part in PARTS.items() if isinstance(m, kind)}
    for name, module in modules.items():
        block = next((path for path in _paths(name) if path in parts), "")
        encodes = name.startswith("encoder.")
        share = 1.0 if not both else shares.source if encodes else 1 - shares.source
        if (count := _num_weights(module)) > 0:
            trains = any(p.requires_grad for p in module.parameters())
            forward = 2.0 * count * (share if block else shares.targets)
            yield parts.get(block, "output"), forward, forward * (needed[name] + trains)
        attention = modules[block]
        if isinstance(attention, Attention) and name == f"{block}.out":
            keys = row_tokens if encodes or block.endswith(".cross") else (row_tokens + 1) / 2
            scores = share * 4.0 * keys * attention.num_heads * attention.d_head
            yield "scores", scores, 2 * scores * needed[name]
    if config.tie_embeddings and not config.head.labels:
        trains = any(p.requires_grad for p in network.get_submodule("embed").parameters())
        forward = 2.0 * config.vocab_size * config.d_model * shares.targets
        yield "output", forward, forward * (needed[""] + trains)


def _paths(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _num_weights(module: nn.Module) -> int:
    """The number of weights in a matmul's module; 0 if the module does no matmul itself."""
    if not isinstance(module, LinearLike | nn.Linear):
        return 0
    if any(isinstance(m, LinearLike | nn.Linear) for m in module.modules() if m is not module):
        return 0
    return num_weights(module) if isinstance(module, LinearLike) else module.weight.numel()
