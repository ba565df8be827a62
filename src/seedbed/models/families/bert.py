"""BERT (Devlin et al. 1810.04805): a post-norm encoder with learned positions and segments, a masked head."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch

from seedbed.base.errors import BundleError
from seedbed.models import initialization
from seedbed.models.family import Family
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import POST, Activation, HeadConfig, HeadKind, ModelConfig
from seedbed.text.special_form import BERT

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
# The published bert-base-uncased and its kin name the parts of a norm as TensorFlow does.
OLDER_NORMS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def _config(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "vocab_size": 30_522,
        "num_heads": max(1, d_model // 64),
        "d_ff": 4 * d_model,
        "max_positions": 512,
        "segment_types": 2,
        "norm_eps": 1e-12,
        "residual": POST,
        "activation": "gelu",
        "embedding_norm": True,
        "head": HeadConfig(kind="mlm", pooler=True),
        "dropout": 0.1,
    }
    shape = {"d_model": d_model, "num_layers": num_layers}
    return ModelConfig(family="bert", shape="encoder", **base | shape | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """BERT's proportions: heads of 64, a feed-forward of 4 d_model; no pooler, which nothing trains."""
    return _config(d_model, num_layers, head=HeadConfig(kind="mlm"))


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of BERT's classes -> ours; the weights' names decide the head and the pooler."""
    activation = values.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise BundleError(f"hidden_act {activation!r} is not known; allowed: {', '.join(ACTIVATIONS)}")
    if values.get("position_embedding_type", "absolute") != "absolute" or values.get("is_decoder"):
        raise BundleError(
            "config.json asks for a decoder or for relative positions; only the published BERT, an encoder "
            "with absolute positions, is supported"
        )
    if not values.get("tie_word_embeddings", True):
        raise BundleError("config.json unties BERT's output from its embedding, which no published one does")
    return _config(
        values["hidden_size"],
        values["num_hidden_layers"],
        vocab_size=values["vocab_size"],
        num_heads=values["num_attention_heads"],
        d_ff=values["intermediate_size"],
        max_positions=values.get("max_position_embeddings", 512),
        segment_types=values.get("type_vocab_size", 2),
        norm_eps=values.get("layer_norm_eps", 1e-12),
        activation=ACTIVATIONS[activation],
        head=HeadConfig(kind="none" if values.get("architectures") == ["BertModel"] else "mlm"),
        dropout=max(values.get(f"{name}_dropout_prob", 0.1) for name in ("hidden", "attention_probs")),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of BERT's classes."""
    theirs = {ours: name for name, ours in ACTIVATIONS.items()}
    return {
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": theirs[config.activation],
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.segment_types,
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
    }


def config_from_names(config: ModelConfig, names: Collection[str]) -> ModelConfig:
    """The head and the pooler that a file of these tensors has: published files name their class loosely."""
    masked = any(name.startswith("cls.predictions.") for name in names)
    return head_from_names(config, masked=masked, pooler="bert.pooler.dense.weight" in names)


def head_from_names(config: ModelConfig, *, masked: bool, pooler: bool) -> ModelConfig:
    """The config with the head that its tensors show; one with labels only config.json tells."""
    if config.head.labels:
        return replace(config, head=replace(config.head, pooler=pooler))
    return replace(config, head=HeadConfig(kind="mlm" if masked else "none", pooler=pooler))


def labelled(kind: HeadKind, labels: tuple[str, ...]) -> HeadConfig:
    """Classes are told from what the pooler makes of the first token."""
    return HeadConfig(kind=kind, labels=labels, pooler=kind == "classification")


def encoder_rules(theirs: str) -> list[Rule]:
    """Names of the layers and embeddings that BERT and RoBERTa share, below their prefix."""
    block, layer = "encoder.blocks.{i}", f"{theirs}.encoder.layer.{{i}}"
    parts = {"q": "self.query", "k": "self.key", "v": "self.value", "out": "output.dense"}
    return [
        Rule("embed", f"{theirs}.embeddings.word_embeddings"),
        Rule("encoder.position", f"{theirs}.embeddings.position_embeddings"),
        Rule("encoder.segment", f"{theirs}.embeddings.token_type_embeddings"),
        Rule("encoder.embed_norm", f"{theirs}.embeddings.LayerNorm"),
        *(Rule(f"{block}.attn.{a}", f"{layer}.attention.{b}") for a, b in parts.items()),
        Rule(f"{block}.attn_norm", f"{layer}.attention.output.LayerNorm"),
        Rule(f"{block}.ffn.up", f"{layer}.intermediate.dense"),
        Rule(f"{block}.ffn.down", f"{layer}.output.dense"),
        Rule(f"{block}.ffn_norm", f"{layer}.output.LayerNorm"),
        Rule("pooler", f"{theirs}.pooler.dense"),
    ]


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `BertForPreTraining`."""
    head = "cls.predictions"
    return [
        *encoder_rules("bert"),
        Rule("transform.dense", f"{head}.transform.dense"),
        Rule("transform.norm", f"{head}.transform.LayerNorm"),
        Rule("output_bias", f"{head}.bias"),
        Rule("classifier", "classifier"),
    ]


def copies(config: ModelConfig) -> dict[str, str]:
    """The output's product and bias, which lie in some files under a second name."""
    return {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02) throughout."""
    initialization.normal(module, generator, std=0.02)
    if module.output_bias is not None:
        torch.nn.init.zeros_(module.output_bias)


FAMILY = Family(
    name="bert",
    model_types=("bert",),
    architectures={
        "mlm": "BertForMaskedLM",
        "none": "BertModel",
        "classification": "BertForSequenceClassification",
        "tagging": "BertForTokenClassification",
    },
    labelled=labelled,
    presets={
        "tiny": _config(128, 2),
        "mini": _config(256, 4),
        "small": _config(512, 4),
        "base": _config(768, 12),
        "large": _config(1024, 24),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    special=BERT,
    ignored=(r"bert\.embeddings\.position_ids", r"cls\.seq_relationship\..*"),
    copies=copies,
    older=OLDER_NORMS,
    prefix="bert.",
    config_from_names=config_from_names,
    objective="masked",
)
