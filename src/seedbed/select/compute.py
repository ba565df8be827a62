"""Parameters and FLOPs of a network by part; it may be on the meta device, where it has no memory."""

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
    """Parameters, tied ones once: embeddings, attention, feed_forward, recurrence, output, norms.

    Parts that a network does not have are left out.
    """
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
    """Of the tokens that a network reads, those of a source and those at which logits are computed."""

    source: float = 0.0
    targets: float = 1.0


class Cost(NamedTuple):
    """FLOPs for a token, on average over a row: of a matmul's forward pass, and of its backward pass."""

    part: str
    forward: float
    backward: float


def forward_flops(network: Network, *, row_tokens: int, shares: Shares | None = None) -> dict[str, float]:
    """FLOPs of a token's forward pass by part, on average over a row of `row_tokens`, a multiply-add two.

    The scores of attention count the keys that a token sees in both of their products: (row_tokens + 1) / 2
    in a decoder, all of the row in an encoder and over a source. A token of an encoder-decoder passes one of
    its stacks. Without `shares` half of its tokens are source, and every other one is a target.
    """
    flops: dict[str, float] = {}
    for cost in _costs(network, row_tokens, shares):
        flops[cost.part] = flops.get(cost.part, 0.0) + cost.forward
    return {part: amount for part, amount in flops.items() if amount}


def training_flops(
    network: Network,
    *,
    num_tokens: int,
    row_tokens: int,
    recomputes: bool = False,
    shares: Shares | None = None,
) -> float:
    """FLOPs of learning from `num_tokens` tokens; `recomputes` with checkpointed activations.

    A matmul's backward pass costs its forward pass once where its weight trains, and once where the gradient
    of its input is needed: something before it trains. What has no backward pass is not computed again.
    """
    costs = list(_costs(network, row_tokens, shares))
    again = sum(c.forward for c in costs if recomputes and c.backward and c.part != "output")
    return num_tokens * (sum(cost.forward + cost.backward for cost in costs) + again)


def gradients_needed(network: Network) -> dict[str, bool]:
    """Of each module by its name, whether the gradient of its input is needed: what comes before it trains.

    Modules are in the order of the forward pass, so that each comes before the next; the name "" is what the
    output reads. An encoder's states come to its decoder with the first cross-attention. A norm counts as
    before its matmuls, also after them: where it is the first part that trains, one gradient too many.
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
            # A recurrent layer reads its own states: their gradient is needed wherever it trains.
            needed[name] = own | (trains and ".recur" in name)
            own |= trains
            source |= trains and name.startswith("embed")
    return needed | {"": own}


def _costs(network: Network, row_tokens: int, shares: Shares | None) -> Iterator[Cost]:
    """The matmuls of a network: those of Linear-like modules and what is in them, scores, the tied output."""
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
        if (numbers := _numbers(module)) > 0:
            trains = any(p.requires_grad for p in module.parameters())
            forward = 2.0 * numbers * (share if block else shares.targets)
            yield Cost(parts.get(block, "output"), forward, forward * (needed[name] + trains))
        attention = modules[block]
        if isinstance(attention, Attention) and name == f"{block}.out":
            keys = row_tokens if encodes or block.endswith(".cross") else (row_tokens + 1) / 2
            scores = share * 4.0 * keys * attention.num_heads * attention.d_head
            yield Cost("scores", scores, 2 * scores * needed[name])
    if config.tie_embeddings and not config.head.labels:
        trains = any(p.requires_grad for p in network.get_submodule("embed").parameters())
        forward = 2.0 * config.vocab_size * config.d_model * shares.targets
        yield Cost("output", forward, forward * (needed[""] + trains))


def _paths(name: str) -> Iterator[str]:
    """The name of a module and those of the modules that it is in, the nearest first."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _numbers(module: nn.Module) -> int:
    """Numbers of the weight of a matmul; 0 of a module that does none itself, as one around another."""
    matmuls = [m for m in module.modules() if isinstance(m, LinearLike | nn.Linear)]
    if matmuls != [module]:
        return 0
    return num_weights(module) if isinstance(module, LinearLike) else matmuls[0].weight.numel()
