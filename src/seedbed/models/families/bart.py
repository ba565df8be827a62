"""BART (Lewis et al. 1910.13461): a post-norm encoder and decoder with learned positions, counted from 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from seedbed.base.errors import BundleError
from seedbed.models import initialization
from seedbed.models.family import Family
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import (
    POST,
    Activation,
    EncoderConfig,
    HeadConfig,
    HeadKind,
    ModelConfig,
    PositionConfig,
)
from seedbed.text.special_form import ROBERTA

OFFSET = 2
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def _config(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "vocab_size": 50_265,
        "num_heads": max(1, d_model // 64),
        "d_ff": 4 * d_model,
        "max_positions": 1024,
        "position": PositionConfig(offset=OFFSET),
        "residual": POST,
        "activation": "gelu",
        "embedding_norm": True,
        "dropout": 0.1,
    }
    shape = {"d_model": d_model, "num_layers": num_layers}
    return ModelConfig(family="bart", shape="encoder-decoder", **base | shape | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """BART's proportions: heads of 64, a feed-forward of 4 d_model."""
    return _config(d_model, num_layers)


def read_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the config of BART's classes and of Marian's say in the same words."""
    activation = values.get("activation_function", "gelu")
    if activation not in ACTIVATIONS:
        raise BundleError(
            f"activation_function {activation!r} is not known; allowed: {', '.join(ACTIVATIONS)}"
        )
    if not values.get("tie_word_embeddings", True):
        raise BundleError(
            "config.json unties the output from the embedding, which no published model of this family does"
        )
    encoder, decoder = (
        EncoderConfig(
            num_layers=values[f"{stack}_layers"],
            num_heads=values[f"{stack}_attention_heads"],
            d_ff=values[f"{stack}_ffn_dim"],
        )
        for stack in ("encoder", "decoder")
    )
    return {
        "vocab_size": values["vocab_size"],
        "d_model": values["d_model"],
        "num_layers": decoder.num_layers,
        "num_heads": decoder.num_heads,
        "d_ff": decoder.d_ff,
        "encoder": None if encoder == decoder else encoder,
        "max_positions": values.get("max_position_embeddings", 1024),
        "activation": ACTIVATIONS[activation],
        "embedding_scale": values["d_model"] ** 0.5 if values.get("scale_embedding") else 1.0,
        "dropout": values.get("dropout", 0.1),
    }


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `BartForConditionalGeneration` -> ours."""
    return replace(_config(64, 1), **read_fields(values))


def write_fields(config: ModelConfig) -> dict[str, Any]:
    """Ours in the words of BART's classes and of Marian's."""
    theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
    encoder = config.of_encoder
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "encoder_layers": encoder.num_layers,
        "encoder_attention_heads": encoder.num_heads,
        "encoder_ffn_dim": encoder.d_ff,
        "decoder_layers": config.num_layers,
        "decoder_attention_heads": config.num_heads,
        "decoder_ffn_dim": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "activation_function": theirs[config.activation],
        "scale_embedding": config.embedding_scale != 1,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "init_std": 0.02,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
    }


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `BartForConditionalGeneration`."""
    return {"model_type": "bart", "decoder_start_token_id": 2} | write_fields(config)


def layer_rules() -> list[Rule]:
    """Names of the layers and the embedding that BART's classes and Marian's share."""
    listed = [
        Rule("embed", "model.shared"),
        Rule("decoder.blocks.{i}.cross_norm", "model.decoder.layers.{i}.encoder_attn_layer_norm"),
    ]
    parts = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
    listed += [
        Rule(f"decoder.blocks.{{i}}.cross.{a}", f"model.decoder.layers.{{i}}.encoder_attn.{b}")
        for a, b in parts.items()
    ]
    for stack in ("encoder", "decoder"):
        ours, theirs = f"{stack}.blocks.{{i}}", f"model.{stack}.layers.{{i}}"
        listed += [Rule(f"{ours}.attn.{a}", f"{theirs}.self_attn.{b}") for a, b in parts.items()]
        listed += [
            Rule(f"{ours}.attn_norm", f"{theirs}.self_attn_layer_norm"),
            Rule(f"{ours}.ffn.up", f"{theirs}.fc1"),
            Rule(f"{ours}.ffn.down", f"{theirs}.fc2"),
            Rule(f"{ours}.ffn_norm", f"{theirs}.final_layer_norm"),
        ]
    return listed


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `BartForConditionalGeneration`."""
    listed = layer_rules()
    for stack in ("encoder", "decoder"):
        listed += [
            Rule(f"{stack}.position", f"model.{stack}.embed_positions"),
            Rule(f"{stack}.embed_norm", f"model.{stack}.layernorm_embedding"),
        ]
    head = {"transform.dense": "dense", "classifier": "out_proj"}
    return listed + [Rule(ours, f"classification_head.{theirs}") for ours, theirs in head.items()]


def labelled(kind: HeadKind, labels: tuple[str, ...]) -> HeadConfig:
    """Classes are told from the decoder's last token through a product of their own."""
    return HeadConfig(kind=kind, labels=labels, dense=True)


def copies(config: ModelConfig) -> dict[str, str]:
    """The embedding as either stack's and as the output."""
    names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    return dict.fromkeys(names, "model.shared.weight")


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02) throughout."""
    initialization.normal(module, generator, std=0.02)


FAMILY = Family(
    name="bart",
    model_types=("bart",),
    architectures={
        "lm": "BartForConditionalGeneration",
        "classification": "BartForSequenceClassification",
    },
    labelled=labelled,
    presets={"base": _config(768, 6), "large": _config(1024, 12)},
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    special=ROBERTA,
    zero=("final_logits_bias",),
    copies=copies,
    prefix="model.",
    objective="denoising",
)
