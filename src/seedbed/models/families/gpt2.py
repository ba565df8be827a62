"""GPT-2 (Radford et al. 2019): a pre-norm decoder with learned positions, weights stored (in, out)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from seedbed.base.errors import BundleError
from seedbed.models import initialization
from seedbed.models.family import Family, decoder_head, tied_output
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import Activation, ModelConfig

ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}


def _config(d_model: int, num_layers: int, num_heads: int) -> ModelConfig:
    return ModelConfig(
        family="gpt2",
        shape="decoder",
        vocab_size=50_257,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
        d_ff=4 * d_model,
        max_positions=1024,
        dropout=0.1,
    )


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """GPT-2's proportions: heads of 64, a feed-forward of 4 d_model."""
    return _config(d_model, num_layers, max(1, d_model // 64))


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `GPT2LMHeadModel` -> ours."""
    activation = values.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise BundleError(
            f"activation_function {activation!r} is not GPT-2's; allowed: {', '.join(ACTIVATIONS)}"
        )
    if not values.get("scale_attn_weights", True) or values.get("scale_attn_by_inverse_layer_idx"):
        raise BundleError(
            "config.json scales attention by other than 1 / sqrt(head_dim), which OpenAI's GPT-2 does not; "
            "allowed: scale_attn_weights true, scale_attn_by_inverse_layer_idx false"
        )
    dropouts = {values.get(name, 0.1) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    return ModelConfig(
        family="gpt2",
        shape="decoder",
        vocab_size=values["vocab_size"],
        d_model=values["n_embd"],
        num_layers=values["n_layer"],
        num_heads=values["n_head"],
        d_ff=values.get("n_inner") or 4 * values["n_embd"],
        max_positions=values.get("n_positions", 1024),
        norm_eps=values.get("layer_norm_epsilon", 1e-5),
        activation=ACTIVATIONS[activation],
        tie_embeddings=values.get("tie_word_embeddings", True),
        dropout=max(dropouts),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `GPT2LMHeadModel`."""
    theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
    return {
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_embd": config.d_model,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.d_ff,
        "n_positions": config.max_positions,
        "n_ctx": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": theirs[config.activation],
        "tie_word_embeddings": config.tie_embeddings,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "initializer_range": 0.02,
    }


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `GPT2LMHeadModel`."""
    ours, theirs = "decoder.blocks.{i}", "transformer.h.{i}"
    listed = [
        Rule("embed", "transformer.wte"),
        Rule("decoder.position", "transformer.wpe"),
        Rule("decoder.final_norm", "transformer.ln_f"),
        Rule(f"{ours}.attn_norm", f"{theirs}.ln_1"),
        Rule(tuple(f"{ours}.attn.{part}" for part in "qkv"), f"{theirs}.attn.c_attn", "transposed"),
        Rule(f"{ours}.attn.out", f"{theirs}.attn.c_proj", "transposed"),
        Rule(f"{ours}.ffn_norm", f"{theirs}.ln_2"),
        Rule(f"{ours}.ffn.up", f"{theirs}.mlp.c_fc", "transposed"),
        Rule(f"{ours}.ffn.down", f"{theirs}.mlp.c_proj", "transposed"),
    ]
    return listed + decoder_head(config, tags="classifier")


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02), the products that end a residual branch scaled by 1 / sqrt(2 num_layers)."""
    residual_std = 0.02 / math.sqrt(2 * module.config.num_layers)
    initialization.normal(module, generator, std=0.02, residual_std=residual_std)


FAMILY = Family(
    name="gpt2",
    model_types=("gpt2",),
    architectures={
        "lm": "GPT2LMHeadModel",
        "classification": "GPT2ForSequenceClassification",
        "tagging": "GPT2ForTokenClassification",
    },
    presets={
        "124m": _config(768, 12, 12),
        "355m": _config(1024, 24, 16),
        "774m": _config(1280, 36, 20),
        "1558m": _config(1600, 48, 25),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    ignored=(r".*\.attn\.(masked_)?bias",),
    copies=tied_output("transformer.wte.weight"),
    prefix="transformer.",
)
