"""Our own decoder of the fast recipe, with the improvements to small models since GPT-2.

Rotary positions, norms without parameters on inputs, queries and keys, squared ReLU, capped logits, an untied
output, branches that start at zero; docs/LOG.md (2026-11-24) has the gain of each. No public class loads it:
its bundle has the Hugging Face layout with our own `model_type`.
"""

from __future__ import annotations

import torch

from seedbed.models.family import Family
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import AttentionConfig, ModelConfig, PositionConfig
from seedbed.nn.linear import linear_modules

HEAD_DIM = 32


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """Heads of 32, a feed-forward of 4 d_model."""
    head_dim = HEAD_DIM if d_model % HEAD_DIM == 0 else d_model
    return ModelConfig(
        family="seedling",
        shape="decoder",
        vocab_size=4096,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=d_model // head_dim,
        d_ff=4 * d_model,
        attention=AttentionConfig(qk_norm="plain", scale=2 * head_dim**-0.5),
        max_positions=256,
        position=PositionConfig(kind="rotary"),
        norm="layer_plain",
        activation="relu_squared",
        bias="none",
        embedding_norm=True,
        logit_cap=15.0,
        tie_embeddings=False,
    )


def rules(config: ModelConfig) -> list[Rule]:
    """Our own names, one for each part of a projection."""
    block = "decoder.blocks.{i}"
    parts = ("attn.q", "attn.k", "attn.v", "attn.out", "ffn.up", "ffn.down")
    names = ["embed", *(f"{block}.{part}" for part in parts)]
    return [Rule(name, name) for name in (names if config.tie_embeddings else [*names, "unembed"])]


@torch.no_grad()
def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Embedding normal(0, 1), projections uniform of variance 1 / d_in, output and ends of branches zero."""
    module.embed.dense().normal_(generator=generator)
    for name, linear in linear_modules(module):
        weight, _ = linear.dense()
        if name.endswith((".out", ".down")) or name == "unembed":
            weight.zero_()
        else:
            limit = (3 / linear.in_features) ** 0.5
            weight.uniform_(-limit, limit, generator=generator)


FAMILY = Family(
    name="seedling",
    presets={"1m": sized(128, 4), "11m": sized(384, 6), "85m": sized(768, 12)},
    sized=sized,
    rules=rules,
    initialize=initialize,
)
