"""BART (Lewis et al. 1910.13461): a post-norm encoder and decoder with learned positions, counted from 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.models.config_json import ConfigKeys, make_config, require_values
from seedbed.models.family import Family
from seedbed.models.weights import Rule
from seedbed.nn.config import POST, EncoderConfig, HeadConfig, ModelConfig, PositionConfig
from seedbed.text.special_form import ROBERTA

KEYS = ConfigKeys(
    {
        "vocab_size": "vocab_size",
        "d_model": "d_model",
        "num_layers": "decoder_layers",
        "num_heads": "decoder_attention_heads",
        "d_ff": "decoder_ffn_dim",
        "max_positions": "max_position_embeddings",
        "activation": "activation_function",
        "dropout": "dropout",
    },
    activations={"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"},
)
ENCODER_KEYS = {
    "num_layers": "encoder_layers",
    "num_heads": "encoder_attention_heads",
    "d_ff": "encoder_ffn_dim",
}


def sized(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    """BART's proportions: heads of 64, a feed-forward of 4 d_model."""
    base: dict[str, Any] = {
        "vocab_size": 50_265,
        "max_positions": 1024,
        "position": PositionConfig(offset=2),
        "residual": POST,
        "activation": "gelu",
        "embedding_norm": True,
        "dropout": 0.1,
    }
    return make_config("bart", "encoder-decoder", d_model, num_layers, **base | fields)


def read_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the configs of BART's and Marian's classes have under the same keys."""
    tied = "every published model of this family ties its output to the embedding"
    require_values(values, {"tie_word_embeddings": True}, tied)
    fields = KEYS.read(values)
    encoder = {name: values[key] for name, key in ENCODER_KEYS.items()}
    if any(fields[name] != value for name, value in encoder.items()):
        fields["encoder"] = EncoderConfig(**encoder)
    scale = fields["d_model"] ** 0.5 if values.get("scale_embedding") else 1.0
    return fields | {"embedding_scale": scale}


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `BartForConditionalGeneration` -> ours."""
    return sized(**read_fields(values))


def write_fields(config: ModelConfig) -> dict[str, Any]:
    """The values that the configs of BART's and Marian's classes have under the same keys."""
    encoder = {key: getattr(config.encoder_config, name) for name, key in ENCODER_KEYS.items()}
    more = {
        "scale_embedding": config.embedding_scale != 1,
        "attention_dropout": config.dropout,
        "init_std": 0.02,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
    }
    return KEYS.write(config) | encoder | more


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `BartForConditionalGeneration`."""
    return {"model_type": "bart", "decoder_start_token_id": 2} | write_fields(config)


def layer_rules() -> list[Rule]:
    """Names of the layers and the embedding that BART's classes and Marian's share."""
    listed = [Rule("embed", "model.shared")]
    parts = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
    for stack, attentions in (("encoder", ["attn"]), ("decoder", ["attn", "cross"])):
        ours, theirs = f"{stack}.blocks.{{i}}", f"model.{stack}.layers.{{i}}"
        for attention in attentions:
            published = {"attn": "self_attn", "cross": "encoder_attn"}[attention]
            listed += [Rule(f"{ours}.{attention}_norm", f"{theirs}.{published}_layer_norm")]
            listed += [Rule(f"{ours}.{attention}.{a}", f"{theirs}.{published}.{b}") for a, b in parts.items()]
        listed += [
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


def copies(config: ModelConfig) -> dict[str, str]:
    """The embedding, stored again for either stack and as the output."""
    names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    return dict.fromkeys(names, "model.shared.weight")


FAMILY = Family(
    name="bart",
    architectures={
        "lm": "BartForConditionalGeneration",
        "classification": "BartForSequenceClassification",
    },
    labelled=lambda kind, labels: HeadConfig(kind=kind, labels=labels, dense=True),
    presets={"base": sized(768, 6), "large": sized(1024, 12)},
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    special=ROBERTA,
    zero=("final_logits_bias",),
    copies=copies,
    prefix="model.",
    objective="denoising",
)
