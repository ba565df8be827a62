"""The Transformer of 2017 (Vaswani et al. 1706.03762): sinusoids, norms after the residuals, one embedding.

Bundles are written for Marian's class, which has the same block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seedbed.models.config_json import make_config, require_values
from seedbed.models.families import bart
from seedbed.models.family import Family
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import POST, ModelConfig, PositionConfig
from seedbed.nn.linear import named_parts
from seedbed.text.special_form import MARIAN

SHARED = "share_encoder_decoder_embeddings"


def sized(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    """The paper's proportions: heads of 64, a feed-forward of 4 d_model."""
    base: dict[str, Any] = {
        "vocab_size": 37_000,
        "max_positions": 1024,
        "position": PositionConfig(kind="sinusoidal"),
        "residual": POST,
        "activation": "relu",
        "embedding_scale": d_model**0.5,
        "dropout": 0.1,
    }
    return make_config("transformer", "encoder-decoder", d_model, num_layers, **base | fields)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `MarianMTModel` -> ours."""
    require_values(values, {SHARED: True}, "the stacks of the 2017 model share one embedding")
    return sized(**bart.read_fields(values))


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `MarianMTModel`."""
    return {"model_type": "marian", "decoder_start_token_id": 0, SHARED: True} | bart.write_fields(config)


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `MarianMTModel`."""
    return bart.layer_rules()


@torch.no_grad()
def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Parts of projections uniform as in Glorot and Bengio 2010, the embedding of variance 1 / d_model."""
    for name, parameter in named_parts(module):
        if parameter.ndim == 1:
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif name == "embed.weight":
            parameter.normal_(0, parameter.size(1) ** -0.5, generator=generator)
        else:
            limit = (6 / sum(parameter.shape)) ** 0.5
            parameter.uniform_(-limit, limit, generator=generator)


FAMILY = Family(
    name="transformer",
    published_as="marian",
    architectures={"lm": "MarianMTModel"},
    presets={"base": sized(512, 6), "big": sized(1024, 6, dropout=0.3)},
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    special=MARIAN,
    ignored=(r"model\.(encoder|decoder)\.embed_positions\.weight",),
    zero=("final_logits_bias",),
    copies=bart.copies,
    prefix="model.",
    objective="completion",
)
