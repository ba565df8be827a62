"""BERT (Devlin et al. 1810.04805): a post-norm encoder with learned positions and segments, a masked head."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from seedbed.models.config_json import ConfigKeys, make_config, require_values
from seedbed.models.family import Family, public_classes
from seedbed.models.weights import Rule
from seedbed.nn.config import POST, HeadConfig, HeadKind, ModelConfig
from seedbed.text.special_form import BERT

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
KEYS = ConfigKeys(
    {
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "d_ff": "intermediate_size",
        "activation": "hidden_act",
        "max_positions": "max_position_embeddings",
        "segment_types": "type_vocab_size",
        "norm_eps": "layer_norm_eps",
        "dropout": DROPOUTS,
    },
    activations={"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu", "silu": "silu"},
)
HEADS: tuple[HeadKind, ...] = ("mlm", "none", "classification", "tagging")
POOLED = HeadConfig(kind="mlm", pooler=True)
FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "tie_word_embeddings": True}
# bert-base-uncased and other first releases have TensorFlow's names for the parameters of norms.
LEGACY_NORMS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def sized(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    """BERT's proportions: heads of 64, a feed-forward of 4 d_model; no pooler: masking does not train it."""
    base: dict[str, Any] = {
        "vocab_size": 30_522,
        "max_positions": 512,
        "segment_types": 2,
        "norm_eps": 1e-12,
        "residual": POST,
        "activation": "gelu",
        "embedding_norm": True,
        "head": HeadConfig(kind="mlm"),
        "dropout": 0.1,
    }
    return make_config("bert", "encoder", d_model, num_layers, **base | fields)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of BERT's classes -> ours; `config_from_names` corrects the head and the pooler."""
    reason = "the published BERT is an encoder with absolute positions and a tied output"
    require_values(values, FIXED, reason)
    head = HeadConfig(kind="none" if values.get("architectures") == ["BertModel"] else "mlm")
    return sized(head=head, **KEYS.read(dict.fromkeys(DROPOUTS, 0.1) | dict(values)))


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of BERT's classes."""
    return (
        {"model_type": "bert"} | KEYS.write(config) | {"initializer_range": 0.02, "tie_word_embeddings": True}
    )


def config_from_names(config: ModelConfig, names: Collection[str]) -> ModelConfig:
    """The head and the pooler of a file with these tensors; the class in published files may be another."""
    masked = any(name.startswith("cls.predictions.") for name in names)
    return head_from_names(config, masked=masked, pooler="bert.pooler.dense.weight" in names)


def head_from_names(config: ModelConfig, *, masked: bool, pooler: bool) -> ModelConfig:
    """The config with the head of the file's tensors; a head with labels is in `config.json` only."""
    if config.head.labels:
        return replace(config, head=replace(config.head, pooler=pooler))
    return replace(config, head=HeadConfig(kind="mlm" if masked else "none", pooler=pooler))


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


FAMILY = Family(
    name="bert",
    architectures=public_classes("Bert", HEADS),
    labelled=lambda kind, labels: HeadConfig(kind=kind, labels=labels, pooler=kind == "classification"),
    presets={
        "tiny": sized(128, 2, head=POOLED),
        "mini": sized(256, 4, head=POOLED),
        "small": sized(512, 4, head=POOLED),
        "base": sized(768, 12, head=POOLED),
        "large": sized(1024, 24, head=POOLED),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    special=BERT,
    ignored=(r"bert\.embeddings\.position_ids", r"cls\.seq_relationship\..*"),
    copies=lambda config: {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    legacy_names=LEGACY_NORMS,
    prefix="bert.",
    config_from_names=config_from_names,
    objective="masked",
)
