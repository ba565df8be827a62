"""RoBERTa (Liu et al. 1907.11692): BERT's encoder with byte-level tokens, one segment, positions from 2."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from seedbed.models.config_json import require_values
from seedbed.models.families import bert
from seedbed.models.family import Family, public_classes
from seedbed.models.weights import Rule
from seedbed.nn.config import HeadConfig, ModelConfig, PositionConfig
from seedbed.text.special_form import ROBERTA

OFFSET = 2  # of positions: the padding token's id, plus 1


def _of_bert(config: ModelConfig, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {"family": "roberta", "position": PositionConfig(offset=OFFSET)}
    return replace(config, **base | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """RoBERTa's proportions: heads of 64, a feed-forward of 4 d_model."""
    return _of_bert(bert.sized(d_model, num_layers), vocab_size=50_265, segment_types=1, norm_eps=1e-5)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of RoBERTa's classes -> ours; two rows of its table of positions are never used."""
    fixed = {"hidden_act": "gelu", "pad_token_id": OFFSET - 1}
    require_values(values, fixed, "RoBERTa has GELU, and pads with token 1")
    config = bert.read_config({"type_vocab_size": 1, "layer_norm_eps": 1e-5} | dict(values))
    kind = "none" if values.get("architectures") == ["RobertaModel"] else "mlm"
    positions = values.get("max_position_embeddings", 514) - OFFSET
    return _of_bert(config, max_positions=positions, head=HeadConfig(kind=kind))  # type: ignore[arg-type]


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of RoBERTa's classes."""
    table = {"max_position_embeddings": config.max_positions + OFFSET, "pad_token_id": OFFSET - 1}
    return bert.write_config(config) | {"model_type": "roberta"} | table


def config_from_names(config: ModelConfig, names: Collection[str]) -> ModelConfig:
    """The head and the pooler of a file with these tensors."""
    masked, pooler = "lm_head.dense.weight" in names, "roberta.pooler.dense.weight" in names
    return bert.head_from_names(config, masked=masked, pooler=pooler)


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `RobertaForMaskedLM` and of the classes with labels."""
    listed = bert.encoder_rules("roberta")
    if config.head.dense:
        return [
            *listed,
            Rule("transform.dense", "classifier.dense"),
            Rule("classifier", "classifier.out_proj"),
        ]
    return [
        *listed,
        Rule("transform.dense", "lm_head.dense"),
        Rule("transform.norm", "lm_head.layer_norm"),
        Rule("output_bias", "lm_head.bias"),
        Rule("classifier", "classifier"),
    ]


FAMILY = Family(
    name="roberta",
    architectures=public_classes("Roberta", bert.HEADS),
    labelled=lambda kind, labels: HeadConfig(kind=kind, labels=labels, dense=kind == "classification"),
    presets={"base": sized(768, 12), "large": sized(1024, 24)},
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    special=ROBERTA,
    ignored=(r"roberta\.embeddings\.position_ids",),
    copies=lambda config: {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    prefix="roberta.",
    config_from_names=config_from_names,
    objective="masked",
)
