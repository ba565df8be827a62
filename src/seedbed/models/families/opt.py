"""OPT (Zhang et al. 2205.01068): a pre-norm decoder with learned positions, counted from 2, and ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seedbed.base.errors import BundleError
from seedbed.models import initialization
from seedbed.models.family import Family, decoder_head, tied_output
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import Activation, ModelConfig, PositionConfig

ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "gelu": "gelu"}
# What every OPT but the 350m has, and what this class takes where config.json is silent.
FIXED = {
    "do_layer_norm_before": True,
    "_remove_final_layer_norm": False,
    "enable_bias": True,
    "layer_norm_elementwise_affine": True,
}


def _config(d_model: int, num_layers: int, num_heads: int, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "vocab_size": 50_272,
        "max_positions": 2048,
        "position": PositionConfig(offset=2),
        "activation": "relu",
        "dropout": 0.1,
    }
    shape = {"d_model": d_model, "num_layers": num_layers, "num_heads": num_heads, "d_ff": 4 * d_model}
    return ModelConfig(family="opt", shape="decoder", **base | shape | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """OPT's proportions: heads of 64, a feed-forward of 4 d_model."""
    return _config(d_model, num_layers, max(1, d_model // 64))


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `OPTForCausalLM` -> ours."""
    width = values["hidden_size"]
    asked = {"word_embed_proj_dim": width, **FIXED}
    for name, allowed in asked.items():
        if values.get(name, allowed) != allowed:
            raise BundleError(
                f"config.json has {name}={values[name]!r}, which this family has no place for; allowed: "
                f"{allowed!r}, as every OPT but the 350m has"
            )
    activation = values.get("activation_function", "relu")
    if activation not in ACTIVATIONS:
        raise BundleError(
            f"activation_function {activation!r} is not OPT's; allowed: {', '.join(ACTIVATIONS)}"
        )
    return _config(
        width,
        values["num_hidden_layers"],
        values["num_attention_heads"],
        vocab_size=values["vocab_size"],
        d_ff=values["ffn_dim"],
        max_positions=values.get("max_position_embeddings", 2048),
        activation=ACTIVATIONS[activation],
        tie_embeddings=values.get("tie_word_embeddings", True),
        dropout=values.get("dropout", 0.1),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `OPTForCausalLM`."""
    theirs = {ours: name for name, ours in ACTIVATIONS.items()}
    return {
        "model_type": "opt",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "word_embed_proj_dim": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "ffn_dim": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "activation_function": theirs[config.activation],
        "tie_word_embeddings": config.tie_embeddings,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "init_std": 0.02,
    } | FIXED


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `OPTForCausalLM` and of the class with labels."""
    ours, theirs = "decoder.blocks.{i}", "model.decoder.layers.{i}"
    parts = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
    listed = [
        Rule("embed", "model.decoder.embed_tokens"),
        Rule("decoder.position", "model.decoder.embed_positions"),
        Rule("decoder.final_norm", "model.decoder.final_layer_norm"),
        Rule(f"{ours}.attn_norm", f"{theirs}.self_attn_layer_norm"),
        *(Rule(f"{ours}.attn.{a}", f"{theirs}.self_attn.{b}") for a, b in parts.items()),
        Rule(f"{ours}.ffn_norm", f"{theirs}.final_layer_norm"),
        Rule(f"{ours}.ffn.up", f"{theirs}.fc1"),
        Rule(f"{ours}.ffn.down", f"{theirs}.fc2"),
    ]
    return listed + decoder_head(config)


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02) throughout."""
    initialization.normal(module, generator, std=0.02)


FAMILY = Family(
    name="opt",
    model_types=("opt",),
    architectures={"lm": "OPTForCausalLM", "classification": "OPTForSequenceClassification"},
    presets={
        "125m": _config(768, 12, 12),
        "1.3b": _config(2048, 24, 32),
        "2.7b": _config(2560, 32, 32),
        "6.7b": _config(4096, 32, 32),
        "13b": _config(5120, 40, 40),
        "30b": _config(7168, 48, 56),
        "66b": _config(9216, 64, 72),
        "175b": _config(12_288, 96, 96),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    copies=tied_output("model.decoder.embed_tokens.weight"),
    prefix="model.",
)
