"""PaLM (Chowdhery et al. 2204.02311): parallel residuals, one key/value head, rotary pairs, SwiGLU.

Its weights were never published; Cohere's class has the same block, and bundles are written for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seedbed.base.errors import BundleError
from seedbed.models import initialization
from seedbed.models.config_json import ConfigKeys, make_config, require_values
from seedbed.models.families import llama
from seedbed.models.family import Family
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import PARALLEL, AttentionConfig, ModelConfig, PositionConfig

KEYS = ConfigKeys({**llama.KEYS.keys, "norm_eps": "layer_norm_eps", "output_scale": "logit_scale"})
FIXED = {"use_qk_norm": False, "attention_bias": False, "hidden_act": "silu"}
D_HEAD = 256


def sized(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    """PaLM's proportions: a feed-forward of 4 d_model; heads of 256, of 64 in small ones."""
    d_head = D_HEAD if d_model >= 4 * D_HEAD else 64
    base: dict[str, Any] = {
        "vocab_size": 256_000,
        "num_heads": max(1, d_model // d_head),
        "attention": AttentionConfig(num_kv_heads=1, head_dim=d_head),
        "max_positions": 2048,
        "position": PositionConfig(kind="rotary", rotary_interleaved=True),
        "norm": "layer_no_bias",
        "residual": PARALLEL,
        "activation": "silu",
        "gated_ffn": True,
        "bias": "none",
        "output_scale": d_model**-0.5,
    }
    return make_config("palm", "decoder", d_model, num_layers, **base | fields)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `CohereForCausalLM` -> ours."""
    require_values(values, FIXED, "PaLM's block has SiLU, no biases and no norms of queries and keys")
    rope = values.get("rope_parameters") or {}
    for scaling in (rope, values.get("rope_scaling") or {}):
        if (kind := scaling.get("rope_type", scaling.get("type", "default"))) != "default":
            raise BundleError(
                f"rotary scaling {kind!r} of config.json is not supported for PaLM's block; allowed: default"
            )
    base = rope.get("rope_theta", values.get("rope_theta", 10_000.0))
    fields = {"max_positions": 8192, "output_scale": 0.0625} | KEYS.read(values)
    attention = AttentionConfig(
        num_kv_heads=values.get("num_key_value_heads") or fields["num_heads"],
        head_dim=values.get("head_dim") or fields["d_model"] // fields["num_heads"],
    )
    position = PositionConfig(kind="rotary", rotary_base=base, rotary_interleaved=True)
    return sized(attention=attention, position=position, **fields)


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `CohereForCausalLM`."""
    more = {
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.d_head,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.position.rotary_base},
    }
    return {"model_type": "cohere"} | KEYS.write(config) | FIXED | more


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `CohereForCausalLM`: LLaMA's, without the second norm."""
    return [rule for rule in llama.rules(config) if rule.ours != "decoder.blocks.{i}.ffn_norm"]


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Projections normal with variance 1 / d_in, the embedding normal(0, 1), norms 1 (section 5)."""
    initialization.normal(
        module, generator, std=lambda _, linear: linear.in_features**-0.5, embedding_std=1.0
    )


FAMILY = Family(
    name="palm",
    published_as="cohere",
    architectures={"lm": "CohereForCausalLM"},
    presets={
        "8b": sized(4096, 32),
        "62b": sized(8192, 64),
        "540b": sized(18_432, 118, num_heads=48),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    copies=llama.FAMILY.copies,
    prefix="model.",
)
