"""BLOOM (BigScience 2211.05100): ALiBi positions, a norm after the embedding, products fused head by head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seedbed.base.errors import BundleError, ConfigError
from seedbed.models import initialization
from seedbed.models.family import Family, decoder_head, tied_output
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import ModelConfig, PositionConfig


def _config(d_model: int, num_layers: int, num_heads: int, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {"vocab_size": 250_880, "max_positions": 2048}
    shape = {"d_model": d_model, "num_layers": num_layers, "num_heads": num_heads, "d_ff": 4 * d_model}
    fixed: dict[str, Any] = {"position": PositionConfig(kind="alibi"), "embedding_norm": True}
    return ModelConfig(family="bloom", shape="decoder", **fixed | base | shape | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """BLOOM's proportions: heads of 64, a feed-forward of 4 d_model."""
    return _config(d_model, num_layers, max(1, d_model // 64))


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `BloomForCausalLM` -> ours."""
    if values.get("apply_residual_connection_post_layernorm"):
        raise BundleError(
            "config.json asks for residuals after the norm, which no published BLOOM has; set "
            "apply_residual_connection_post_layernorm to false"
        )
    return _config(
        values["hidden_size"] if "hidden_size" in values else values["n_embed"],
        values["n_layer"] if "n_layer" in values else values["num_hidden_layers"],
        values["n_head"] if "n_head" in values else values["num_attention_heads"],
        vocab_size=values["vocab_size"],
        max_positions=values.get("seq_length", 2048),
        norm_eps=values.get("layer_norm_epsilon", 1e-5),
        tie_embeddings=values.get("tie_word_embeddings", True),
        dropout=max(values.get("hidden_dropout", 0.0), values.get("attention_dropout", 0.0)),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `BloomForCausalLM`."""
    if config.d_ff != 4 * config.d_model:
        raise ConfigError(f"BLOOM's d_ff is 4 d_model, {4 * config.d_model}, not {config.d_ff}; leave it out")
    return {
        "model_type": "bloom",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "seq_length": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_dropout": config.dropout,
        "attention_dropout": config.dropout,
        "initializer_range": 0.02,
    }


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `BloomForCausalLM`."""
    ours, theirs = "decoder.blocks.{i}", "transformer.h.{i}"
    qkv = tuple(f"{ours}.attn.{part}" for part in "qkv")
    listed = [
        Rule("embed", "transformer.word_embeddings"),
        Rule("decoder.embed_norm", "transformer.word_embeddings_layernorm"),
        Rule("decoder.final_norm", "transformer.ln_f"),
        Rule(f"{ours}.attn_norm", f"{theirs}.input_layernorm"),
        Rule(qkv, f"{theirs}.self_attention.query_key_value", "per_head"),
        Rule(f"{ours}.attn.out", f"{theirs}.self_attention.dense"),
        Rule(f"{ours}.ffn_norm", f"{theirs}.post_attention_layernorm"),
        Rule(f"{ours}.ffn.up", f"{theirs}.mlp.dense_h_to_4h"),
        Rule(f"{ours}.ffn.down", f"{theirs}.mlp.dense_4h_to_h"),
    ]
    return listed + decoder_head(config, tags="classifier")


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02) throughout."""
    initialization.normal(module, generator, std=0.02)


FAMILY = Family(
    name="bloom",
    model_types=("bloom",),
    architectures={
        "lm": "BloomForCausalLM",
        "classification": "BloomForSequenceClassification",
        "tagging": "BloomForTokenClassification",
    },
    presets={
        "560m": _config(1024, 24, 16),
        "1b1": _config(1536, 24, 16),
        "3b": _config(2560, 30, 32),
        "7b1": _config(4096, 30, 32),
        "176b": _config(14_336, 70, 112),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    copies=tied_output("transformer.word_embeddings.weight"),
    prefix="transformer.",
)
