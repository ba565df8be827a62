"""Qwen2 and Qwen2.5 (Yang et al. 2407.10671, 2412.15115): LLaMA's block with biases on q, k and v."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seedbed.base.errors import BundleError, ConfigError
from seedbed.models.families import llama
from seedbed.models.family import GgufForm, public_classes
from seedbed.nn.config import AttentionConfig, ModelConfig, PositionConfig

ROTARY_BASE = 1_000_000.0


def sized(d_model: int, num_layers: int, *shape: int, **fields: Any) -> ModelConfig:
    """LLaMA's proportions, with the biases."""
    return llama.sized(d_model, num_layers, *shape, family="qwen2", bias="qkv", **fields)


def _config(*shape: int, num_kv_heads: int, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "vocab_size": 151_936,
        "max_positions": 32_768,
        "position": PositionConfig(kind="rotary", rotary_base=ROTARY_BASE),
        "attention": AttentionConfig(num_kv_heads=num_kv_heads),
    }
    return sized(*shape, **base | fields)


def _large(*shape: int, **fields: Any) -> ModelConfig:
    return _config(*shape, vocab_size=152_064, max_positions=131_072, **fields)


def require_no_window(values: Mapping[str, Any]) -> None:
    """Refuse a window in the upper layers only, which no published model of the line uses."""
    if values.get("use_sliding_window") or "sliding_attention" in (values.get("layer_types") or ()):
        raise BundleError(
            "config.json has a sliding window in some of the layers, which is not supported; if your texts "
            "are not longer than the window, set use_sliding_window to false and remove layer_types"
        )


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `Qwen2ForCausalLM` -> ours."""
    require_no_window(values)
    values = {"max_position_embeddings": 32_768} | dict(values)
    return replace(llama.read_config(values), family="qwen2", bias="qkv")


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `Qwen2ForCausalLM`, whose heads are d_model / num_heads wide."""
    if config.d_head * config.num_heads != config.d_model:
        raise ConfigError(
            f"head_dim={config.d_head} times num_heads={config.num_heads} must be d_model={config.d_model} "
            f"in the family {config.family}; leave head_dim out"
        )
    values = llama.write_config(config) | {"model_type": "qwen2", "use_sliding_window": False}
    return {key: value for key, value in values.items() if key not in ("attention_bias", "mlp_bias")}


FAMILY = replace(
    llama.FAMILY,
    name="qwen2",
    architectures=public_classes("Qwen2"),
    presets={
        "0.5b": _config(896, 24, 14, 4864, num_kv_heads=2, max_positions=131_072, tie_embeddings=True),
        "1.5b": _config(1536, 28, 12, 8960, num_kv_heads=2, max_positions=131_072, tie_embeddings=True),
        "7b": _large(3584, 28, 28, 18_944, num_kv_heads=4),
        "72b": _large(8192, 80, 64, 29_568, num_kv_heads=8, norm_eps=1e-5),
        "2.5-0.5b": _config(896, 24, 14, 4864, num_kv_heads=2, tie_embeddings=True),
        "2.5-1.5b": _config(1536, 28, 12, 8960, num_kv_heads=2, max_positions=131_072, tie_embeddings=True),
        "2.5-3b": _config(2048, 36, 16, 11_008, num_kv_heads=2, tie_embeddings=True),
        "2.5-7b": _large(3584, 28, 28, 18_944, num_kv_heads=4),
        "2.5-14b": _large(5120, 48, 40, 13_824, num_kv_heads=8, norm_eps=1e-5),
        "2.5-32b": _large(5120, 64, 40, 27_648, num_kv_heads=8, norm_eps=1e-5),
        "2.5-72b": _large(8192, 80, 64, 29_568, num_kv_heads=8, norm_eps=1e-5),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    gguf=GgufForm(names=llama.GGUF_NAMES),
)
