"""Qwen3 (Yang et al. 2505.09388): LLaMA's block with normed queries and keys, and heads of 128."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seedbed.models.families import llama, qwen2
from seedbed.models.family import GgufForm, public_classes
from seedbed.models.weights import Rule
from seedbed.nn.config import AttentionConfig, ModelConfig, PositionConfig

HEAD_DIM = 128


def _config(*shape: int, **fields: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "vocab_size": 151_936,
        "max_positions": 40_960,
        "position": PositionConfig(kind="rotary", rotary_base=qwen2.ROTARY_BASE),
        "attention": AttentionConfig(num_kv_heads=8, head_dim=HEAD_DIM, qk_norm="rms"),
    }
    return llama.sized(*shape, family="qwen3", **base | fields)


def _of_llama(config: ModelConfig) -> ModelConfig:
    return replace(config, family="qwen3").with_attention(qk_norm="rms")


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """LLaMA's proportions, with the norms."""
    return _of_llama(llama.sized(d_model, num_layers))


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `Qwen3ForCausalLM` -> ours."""
    qwen2.require_no_window(values)
    values = {"max_position_embeddings": 32_768, "head_dim": HEAD_DIM} | dict(values)
    return _of_llama(llama.read_config(values))


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `Qwen3ForCausalLM`."""
    values = llama.write_config(config) | {"model_type": "qwen3", "use_sliding_window": False}
    return {key: value for key, value in values.items() if key != "mlp_bias"}


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `Qwen3ForCausalLM`."""
    ours, theirs = "decoder.blocks.{i}.attn", "model.layers.{i}.self_attn"
    return llama.rules(config) + [Rule(f"{ours}.{n}_norm", f"{theirs}.{n}_norm") for n in "qk"]


FAMILY = replace(
    llama.FAMILY,
    name="qwen3",
    architectures=public_classes("Qwen3"),
    presets={
        "0.6b": _config(1024, 28, 16, 3072, tie_embeddings=True),
        "1.7b": _config(2048, 28, 16, 6144, tie_embeddings=True),
        "4b": _config(2560, 36, 32, 9728, tie_embeddings=True),
        "8b": _config(4096, 36, 32, 12_288),
        "14b": _config(5120, 40, 40, 17_408),
        "32b": _config(5120, 64, 64, 25_600),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    gguf=GgufForm(
        names=llama.GGUF_NAMES
        | {f"blk.{{i}}.attn_{n}_norm": f"model.layers.{{i}}.self_attn.{n}_norm" for n in "qk"},
    ),
)
