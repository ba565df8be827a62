"""Gemma (Google 2403.08295): LLaMA's block with 1 + weight in norms, scaled embeddings, a gated GELU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from seedbed.base.errors import BundleError
from seedbed.models import initialization
from seedbed.models.families import llama
from seedbed.models.family import GgufForm, public_classes
from seedbed.models.transformer import Transformer
from seedbed.nn.config import AttentionConfig, ModelConfig
from seedbed.nn.norms import RMSNorm

HEAD_DIM = 256
ACTIVATIONS = ("gelu", "gelu_pytorch_tanh")  # the first releases say the one and mean the other


def _of_llama(config: ModelConfig, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "family": "gemma",
        "norm": "rms_offset",
        "activation": "gelu_tanh",
        "embedding_scale": math.sqrt(config.d_model),
        "tie_embeddings": True,
    }
    return replace(config, **base | fields)


def _config(d_model: int, num_layers: int, num_heads: int, d_ff: int, num_kv_heads: int) -> ModelConfig:
    base = llama.sized(d_model, num_layers, num_heads, d_ff)
    attention = AttentionConfig(num_kv_heads=num_kv_heads, head_dim=HEAD_DIM)
    return _of_llama(base, vocab_size=256_000, attention=attention, max_positions=8192)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """LLaMA's proportions; heads of 256 are too wide for small models."""
    return _of_llama(llama.sized(d_model, num_layers))


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `GemmaForCausalLM` -> ours."""
    named = {values.get("hidden_act", ACTIVATIONS[1]), values.get("hidden_activation") or ACTIVATIONS[1]}
    if not named <= set(ACTIVATIONS) or values.get("use_bidirectional_attention"):
        raise BundleError(
            "config.json has an activation other than gelu_pytorch_tanh or attention to later "
            "tokens, which Gemma 1 does not have; this model belongs to another family"
        )
    defaults = {"max_position_embeddings": 8192, "head_dim": HEAD_DIM, "tie_word_embeddings": True}
    return _of_llama(llama.read_config(defaults | dict(values) | {"hidden_act": "silu"}))


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `GemmaForCausalLM`."""
    values = llama.write_config(config) | {"model_type": "gemma"}
    return values | dict.fromkeys(("hidden_act", "hidden_activation"), ACTIVATIONS[1])


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02); norms at 1, so weights to which 1 is added at 0."""
    initialization.normal(module, generator)
    for child in module.modules():
        if isinstance(child, RMSNorm) and child.weight is not None:
            torch.nn.init.zeros_(child.weight)


FAMILY = replace(
    llama.FAMILY,
    name="gemma",
    architectures=public_classes("Gemma"),
    presets={"2b": _config(2048, 18, 8, 16_384, 1), "7b": _config(3072, 28, 16, 24_576, 16)},
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    initialize=initialize,
    gguf=GgufForm(names=llama.GGUF_NAMES, norms_from_one=True),
)
