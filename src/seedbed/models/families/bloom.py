"""BLOOM (BigScience 2211.05100): ALiBi positions, a norm of the embeddings, q, k, v fused by head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.base.errors import ConfigError
from seedbed.models.config_json import ConfigKeys, make_config, require_values
from seedbed.models.family import Family, decoder_head_rules, public_classes, tied_output
from seedbed.models.weights import Rule
from seedbed.nn.config import ModelConfig, PositionConfig

KEYS = ConfigKeys(
    {
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "max_positions": "seq_length",
        "norm_eps": "layer_norm_epsilon",
        "tie_embeddings": "tie_word_embeddings",
        "dropout": ("hidden_dropout", "attention_dropout"),
    }
)
OTHER_KEYS = {"hidden_size": "n_embed", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}


def sized(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    """BLOOM's proportions: heads of 64, a feed-forward of 4 d_model."""
    base: dict[str, Any] = {
        "vocab_size": 250_880,
        "max_positions": 2048,
        "position": PositionConfig(kind="alibi"),
        "embedding_norm": True,
    }
    return make_config("bloom", "decoder", d_model, num_layers, **base | fields)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `BloomForCausalLM` -> ours."""
    residual = {"apply_residual_connection_post_layernorm": False}
    require_values(values, residual, "no published BLOOM has residuals after the norm")
    other = {key: values[name] for key, name in OTHER_KEYS.items() if name in values}
    return sized(**KEYS.read(other | dict(values)))


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `BloomForCausalLM`."""
    if config.d_ff != 4 * config.d_model:
        raise ConfigError(f"BLOOM's d_ff is 4 d_model, {4 * config.d_model}, not {config.d_ff}; leave it out")
    return {"model_type": "bloom"} | KEYS.write(config) | {"initializer_range": 0.02}


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `BloomForCausalLM`."""
    ours, theirs = "decoder.blocks.{i}", "transformer.h.{i}"
    qkv = tuple(f"{ours}.attn.{part}" for part in "qkv")
    return [
        Rule("embed", "transformer.word_embeddings"),
        Rule("decoder.embed_norm", "transformer.word_embeddings_layernorm"),
        Rule("decoder.final_norm", "transformer.ln_f"),
        Rule(f"{ours}.attn_norm", f"{theirs}.input_layernorm"),
        Rule(qkv, f"{theirs}.self_attention.query_key_value", "per_head"),
        Rule(f"{ours}.attn.out", f"{theirs}.self_attention.dense"),
        Rule(f"{ours}.ffn_norm", f"{theirs}.post_attention_layernorm"),
        Rule(f"{ours}.ffn.up", f"{theirs}.mlp.dense_h_to_4h"),
        Rule(f"{ours}.ffn.down", f"{theirs}.mlp.dense_4h_to_h"),
        *decoder_head_rules(config, tags="classifier"),
    ]


FAMILY = Family(
    name="bloom",
    architectures=public_classes("Bloom"),
    presets={
        "560m": sized(1024, 24),
        "1b1": sized(1536, 24, num_heads=16),
        "3b": sized(2560, 30, num_heads=32),
        "7b1": sized(4096, 30, num_heads=32),
        "176b": sized(14_336, 70, num_heads=112),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    copies=tied_output("transformer.word_embeddings.weight"),
    prefix="transformer.",
)
