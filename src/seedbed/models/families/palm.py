"""PaLM (Chowdhery et al. 2204.02311): parallel residuals, one key/value head, rotary pairs, SwiGLU.

Its weights were never published; Cohere's class has the same block, and bundles are written for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seedbed.base.errors import BundleError
from seedbed.models.families import llama
from seedbed.models.family import Family
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import PARALLEL, AttentionConfig, ModelConfig, PositionConfig
from seedbed.nn.linear import EmbeddingLike, LinearLike, whole_modules

D_HEAD = 256


def _config(d_model: int, num_layers: int, num_heads: int, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "vocab_size": 256_000,
        "attention": AttentionConfig(num_kv_heads=1, head_dim=D_HEAD),
        "max_positions": 2048,
        "position": PositionConfig(kind="rotary", rotary_interleaved=True),
        "norm": "layer_no_bias",
        "residual": PARALLEL,
        "activation": "silu",
        "gated_ffn": True,
        "bias": "none",
        "output_scale": d_model**-0.5,
        "d_ff": 4 * d_model,
    }
    shape = {"d_model": d_model, "num_layers": num_layers, "num_heads": num_heads}
    return ModelConfig(family="palm", shape="decoder", **base | shape | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """PaLM's proportions: a feed-forward of 4 d_model; heads of 256, of 64 in small ones."""
    d_head = D_HEAD if d_model >= 4 * D_HEAD else 64
    attention = AttentionConfig(num_kv_heads=1, head_dim=d_head)
    return _config(d_model, num_layers, max(1, d_model // d_head), attention=attention)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `CohereForCausalLM` -> ours."""
    if (
        values.get("use_qk_norm")
        or values.get("attention_bias")
        or values.get("hidden_act", "silu") != "silu"
    ):
        raise BundleError(
            "config.json asks for biases, normed queries or an activation other than silu, which PaLM's "
            "block does not have; it is another model's"
        )
    rope = values.get("rope_parameters") or {}
    for scaling in (rope, values.get("rope_scaling") or {}):
        if (kind := scaling.get("rope_type", scaling.get("type", "default"))) != "default":
            raise BundleError(
                f"rotary scaling {kind!r} of config.json is not supported for PaLM's block; allowed: default"
            )
    base = rope.get("rope_theta", values.get("rope_theta", 10_000.0))
    return _config(
        values["hidden_size"],
        values["num_hidden_layers"],
        values["num_attention_heads"],
        vocab_size=values["vocab_size"],
        d_ff=values["intermediate_size"],
        attention=AttentionConfig(
            num_kv_heads=values.get("num_key_value_heads") or values["num_attention_heads"],
            head_dim=values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"],
        ),
        max_positions=values.get("max_position_embeddings", 8192),
        position=PositionConfig(kind="rotary", rotary_base=base, rotary_interleaved=True),
        norm_eps=values.get("layer_norm_eps", 1e-5),
        output_scale=values.get("logit_scale", 0.0625),
        tie_embeddings=values.get("tie_word_embeddings", True),
        dropout=values.get("attention_dropout", 0.0),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `CohereForCausalLM`."""
    return {
        "model_type": "cohere",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.d_head,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.position.rotary_base},
        "layer_norm_eps": config.norm_eps,
        "logit_scale": config.output_scale,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_dropout": config.dropout,
        "use_qk_norm": False,
        "attention_bias": False,
        "hidden_act": "silu",
    }


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `CohereForCausalLM`: LLaMA's, without the second norm."""
    return [rule for rule in llama.rules(config) if rule.ours != "decoder.blocks.{i}.ffn_norm"]


@torch.no_grad()
def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Products normal at variance 1 / d_in, the embedding normal(0, 1), norms 1 (section 5)."""
    for _, child in whole_modules(module):
        if isinstance(child, LinearLike):
            child.dense()[0].normal_(0, child.in_features**-0.5, generator=generator)
        elif isinstance(child, EmbeddingLike):
            child.dense().normal_(generator=generator)
        elif not list(child.children()):
            for parameter in child.parameters():
                parameter.fill_(1.0)


FAMILY = Family(
    name="palm",
    model_types=("cohere",),
    architectures={"lm": "CohereForCausalLM"},
    presets={
        "8b": _config(4096, 32, 16),
        "62b": _config(8192, 64, 32),
        "540b": _config(18_432, 118, 48),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    copies=llama.FAMILY.copies,
    prefix="model.",
)
