"""Parameters and FLOPs of a network by part, from its config alone: the modules are built without memory."""

from __future__ import annotations

from collections import Counter

from torch import nn

from seedbed.models.family import Config
from seedbed.models.network import build
from seedbed.nn.attention import Attention
from seedbed.nn.block import FeedForward
from seedbed.nn.linear import Embedding, Projection
from seedbed.nn.recurrent import RecurrentLayer

PARTS: dict[type[nn.Module], str] = {
    Embedding: "embeddings",
    Attention: "attention",
    FeedForward: "feed_forward",
    RecurrentLayer: "recurrence",
}
# A training step is a forward pass and a backward one, which is two products for each of the forward's.
PASSES_TRAINING = 3


def parameters_by_part(config: Config) -> dict[str, int]:
    """Parameters, tied ones once: embeddings, attention, feed_forward, recurrence, output, norms.

    Parts that a network does not have are left out.
    """
    counts: Counter[str] = Counter()
    seen: set[int] = set()

    def count(module: nn.Module, part: str) -> None:
        part = next((name for kind, name in PARTS.items() if isinstance(module, kind)), part)
        if isinstance(module, Projection) and part == "norms":
            part = "output"
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                counts[part] += parameter.numel()
        for child in module.children():
            count(child, part)

    count(build(config, "meta"), "norms")
    return dict(counts)


def forward_flops(config: Config, *, row_tokens: int) -> dict[str, float]:
    """FLOPs of a token's forward pass by part, on average over a row of `row_tokens`, a multiply-add two.

    The scores of attention count the keys that a token sees, (row_tokens + 1) / 2, in both of their products.
    """
    module = build(config, "meta")
    flops: dict[str, float] = {}
    inner: set[int] = set()
    for kind, part in PARTS.items():
        for block in module.modules():
            if isinstance(block, kind):
                products = [m for m in block.modules() if isinstance(m, Projection)]
                inner |= {id(product) for product in products}
                flops[part] = flops.get(part, 0.0) + 2.0 * sum(product.weight.numel() for product in products)
            if kind is Attention and isinstance(block, Attention):
                scores = 2.0 * (row_tokens + 1) * block.num_heads * block.d_head
                flops["scores"] = flops.get("scores", 0.0) + scores
    rest = [m for m in module.modules() if isinstance(m, Projection) and id(m) not in inner]
    flops["output"] = 2.0 * sum(product.weight.numel() for product in rest)
    if config.tie_embeddings and not config.head.labels:
        flops["output"] += 2.0 * module.embed.weight.numel()
    return {part: amount for part, amount in flops.items() if amount}


def training_flops(config: Config, *, num_tokens: int, row_tokens: int, recomputes: bool = False) -> float:
    """FLOPs of learning from `num_tokens` tokens; `recomputes` with checkpointed activations."""
    forward = forward_flops(config, row_tokens=row_tokens)
    again = sum(forward.values()) - forward["output"] if recomputes else 0.0
    return num_tokens * (PASSES_TRAINING * sum(forward.values()) + again)
