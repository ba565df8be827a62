"""Parameters and FLOPs of a network by part, from its config alone: the modules are built without memory."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

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


class Shares(NamedTuple):
    """Of the tokens that a network reads, those of a source and those at which logits are computed."""

    source: float = 0.0
    targets: float = 1.0


def forward_flops(config: Config, *, row_tokens: int, shares: Shares | None = None) -> dict[str, float]:
    """FLOPs of a token's forward pass by part, on average over a row of `row_tokens`, a multiply-add two.

    The scores of attention count the keys that a token sees in both of their products: (row_tokens + 1) / 2
    in a decoder, all of the row in an encoder and over a source. A token of an encoder-decoder passes one of
    its stacks. Without `shares` half of its tokens are source, and every other one is a target.
    """
    both = config.shape == "encoder-decoder"
    shares = shares or (Shares(0.5, 0.5) if both else Shares())
    module = build(config, "meta")
    flops: dict[str, float] = {}
    inner: set[int] = set()
    for name, block in module.named_modules():
        part = next((part for kind, part in PARTS.items() if isinstance(block, kind)), None)
        if part is None:
            continue
        encodes = name.startswith("encoder.")
        share = 1.0 if not both else shares.source if encodes else 1 - shares.source
        products = [m for m in block.modules() if isinstance(m, Projection)]
        inner |= {id(product) for product in products}
        amount = 2.0 * sum(product.weight.numel() for product in products)
        flops[part] = flops.get(part, 0.0) + share * amount
        if isinstance(block, Attention):
            keys = row_tokens if encodes or name.endswith(".cross") else (row_tokens + 1) / 2
            scores = 4.0 * keys * block.num_heads * block.d_head
            flops["scores"] = flops.get("scores", 0.0) + share * scores
    rest = [m for m in module.modules() if isinstance(m, Projection) and id(m) not in inner]
    flops["output"] = 2.0 * sum(product.weight.numel() for product in rest)
    if config.tie_embeddings and not config.head.labels:
        flops["output"] += 2.0 * module.embed.num_embeddings * module.embed.embedding_dim
    flops["output"] *= shares.targets
    return {part: amount for part, amount in flops.items() if amount}


def training_flops(
    config: Config,
    *,
    num_tokens: int,
    row_tokens: int,
    recomputes: bool = False,
    shares: Shares | None = None,
) -> float:
    """FLOPs of learning from `num_tokens` tokens; `recomputes` with checkpointed activations."""
    forward = forward_flops(config, row_tokens=row_tokens, shares=shares)
    again = sum(forward.values()) - forward["output"] if recomputes else 0.0
    return num_tokens * (PASSES_TRAINING * sum(forward.values()) + again)
