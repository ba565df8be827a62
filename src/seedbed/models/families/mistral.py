"""Mistral (Jiang et al. 2310.06825): LLaMA's block with attention over a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seedbed.models.families import llama
from seedbed.models.family import public_classes
from seedbed.nn.config import AttentionConfig, ModelConfig, PositionConfig


def _config(*shape: int, rotary_base: float = 1_000_000.0, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "max_positions": 32_768,
        "position": PositionConfig(kind="rotary", rotary_base=rotary_base),
        "norm_eps": 1e-5,
        "attention": AttentionConfig(num_kv_heads=8),
    }
    return llama.sized(*shape, family="mistral", **base | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """LLaMA's proportions; no window, as in its later sizes."""
    return llama.sized(d_model, num_layers, family="mistral")


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `MistralForCausalLM` -> ours; the default window is 4,096."""
    config = replace(llama.read_config(values), family="mistral")
    return config.with_attention(window=values.get("sliding_window", 4096))


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `MistralForCausalLM`."""
    return llama.write_config(config) | {"model_type": "mistral", "sliding_window": config.attention.window}


FAMILY = replace(
    llama.FAMILY,
    name="mistral",
    architectures=public_classes("Mistral"),
    presets={
        "7b-v0.1": _config(4096, 32, 32, 14_336, rotary_base=10_000.0).with_attention(window=4096),
        "7b-v0.2": _config(4096, 32, 32, 14_336),
        "7b-v0.3": _config(4096, 32, 32, 14_336, vocab_size=32_768),
        "nemo-12b": _config(
            *(5120, 40, 32, 14_336),
            vocab_size=131_072,
            attention=AttentionConfig(num_kv_heads=8, head_dim=128),
            max_positions=131_072,
        ),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    gguf=None,
)
