"""GPT (Radford et al. 2018): the decoder with learned positions, its norms after the residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seedbed.base.errors import BundleError, ConfigError
from seedbed.models import initialization
from seedbed.models.family import Family, tied_output
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import POST, Activation, ModelConfig

# "gelu" of this class is the approximation by tanh.
ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu"}


def _config(d_model: int, num_layers: int, num_heads: int, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {"vocab_size": 40_478, "max_positions": 512, "residual": POST, "dropout": 0.1}
    shape = {"d_model": d_model, "num_layers": num_layers, "num_heads": num_heads, "d_ff": 4 * d_model}
    return ModelConfig(family="gpt", shape="decoder", **base | shape | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """GPT's proportions: heads of 64, a feed-forward of 4 d_model."""
    return _config(d_model, num_layers, max(1, d_model // 64))


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `OpenAIGPTLMHeadModel` -> ours."""
    activation = values.get("afn", "gelu")
    if activation not in ACTIVATIONS:
        raise BundleError(f"afn {activation!r} is not GPT's; allowed: {', '.join(ACTIVATIONS)}")
    return _config(
        values["n_embd"],
        values["n_layer"],
        values["n_head"],
        vocab_size=values["vocab_size"],
        max_positions=values.get("n_positions", 512),
        norm_eps=values.get("layer_norm_epsilon", 1e-5),
        activation=ACTIVATIONS[activation],
        tie_embeddings=values.get("tie_word_embeddings", True),
        dropout=max(values.get(name, 0.1) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `OpenAIGPTLMHeadModel`."""
    if config.d_ff != 4 * config.d_model:
        raise ConfigError(f"GPT's d_ff is 4 d_model, {4 * config.d_model}, not {config.d_ff}; leave it out")
    theirs = {ours: name for name, ours in ACTIVATIONS.items()}
    return {
        "model_type": "openai-gpt",
        "vocab_size": config.vocab_size,
        "n_embd": config.d_model,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_positions": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "afn": theirs[config.activation],
        "tie_word_embeddings": config.tie_embeddings,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "initializer_range": 0.02,
    }


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `OpenAIGPTLMHeadModel`."""
    ours, theirs = "decoder.blocks.{i}", "transformer.h.{i}"
    qkv = tuple(f"{ours}.attn.{part}" for part in "qkv")
    listed = [
        Rule("embed", "transformer.tokens_embed"),
        Rule("decoder.position", "transformer.positions_embed"),
        Rule(qkv, f"{theirs}.attn.c_attn", "transposed"),
        Rule(f"{ours}.attn.out", f"{theirs}.attn.c_proj", "transposed"),
        Rule(f"{ours}.attn_norm", f"{theirs}.ln_1"),
        Rule(f"{ours}.ffn.up", f"{theirs}.mlp.c_fc", "transposed"),
        Rule(f"{ours}.ffn.down", f"{theirs}.mlp.c_proj", "transposed"),
        Rule(f"{ours}.ffn_norm", f"{theirs}.ln_2"),
    ]
    return listed if config.tie_embeddings else [*listed, Rule("unembed", "lm_head")]


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02) throughout."""
    initialization.normal(module, generator, std=0.02)


FAMILY = Family(
    name="gpt",
    model_types=("openai-gpt",),
    architectures={"lm": "OpenAIGPTLMHeadModel"},
    presets={"117m": _config(768, 12, 12)},
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    ignored=(r".*\.attn\.bias", r"transformer\.position_ids"),
    copies=tied_output("transformer.tokens_embed.weight"),
    prefix="transformer.",
)
