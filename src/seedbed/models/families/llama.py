"""LLaMA (Touvron et al. 2302.13971; Meta 2407.21783): rotary positions, RMSNorm, SwiGLU, no biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from seedbed.base.errors import BundleError, ConfigError
from seedbed.models import initialization
from seedbed.models.family import Family, GgufForm, decoder_head, tied_output
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import AttentionConfig, HeadKind, ModelConfig, PositionConfig, RotaryScaling

IGNORED = (r".*\.rotary_emb\.inv_freq",)
EMBEDDING = "model.embed_tokens.weight"
GROUPED = AttentionConfig(num_kv_heads=8)


def shaped(
    family: str, d_model: int, num_layers: int, num_heads: int, d_ff: int, **fields: Any
) -> ModelConfig:
    """The block, for a family that has it; the fields are those of ModelConfig."""
    base: dict[str, Any] = {
        "vocab_size": 32_000,
        "max_positions": 2048,
        "position": PositionConfig(kind="rotary"),
        "norm": "rms",
        "norm_eps": 1e-6,
        "activation": "silu",
        "gated_ffn": True,
        "bias": "none",
        "tie_embeddings": False,
    }
    shape = {"d_model": d_model, "num_layers": num_layers, "num_heads": num_heads, "d_ff": d_ff}
    return ModelConfig(family=family, shape="decoder", **base | shape | fields)


def _config(d_model: int, num_layers: int, num_heads: int, d_ff: int, **fields: Any) -> ModelConfig:
    return shaped("llama", d_model, num_layers, num_heads, d_ff, **fields)


def _llama3(d_model: int, num_layers: int, num_heads: int, d_ff: int, **fields: Any) -> ModelConfig:
    scaling = RotaryScaling(kind="llama3", factor=fields.pop("factor"))
    position = PositionConfig(kind="rotary", rotary_base=500_000.0, scaling=scaling)
    base = {"vocab_size": 128_256, "attention": GROUPED, "max_positions": 131_072, "norm_eps": 1e-5}
    return _config(d_model, num_layers, num_heads, d_ff, **base | {"position": position} | fields)


def _smollm2(d_model: int, num_layers: int, num_heads: int, d_ff: int, **fields: Any) -> ModelConfig:
    """Ben Allal et al. 2502.02737."""
    position = PositionConfig(kind="rotary", rotary_base=100_000.0)
    base = {"vocab_size": 49_152, "max_positions": 8192, "norm_eps": 1e-5, "tie_embeddings": True}
    return _config(d_model, num_layers, num_heads, d_ff, **base | {"position": position} | fields)


def sized(d_model: int, num_layers: int) -> ModelConfig:
    """LLaMA's proportions: heads of 64, a gated feed-forward of 8/3 d_model, a multiple of 32."""
    return _config(d_model, num_layers, max(1, d_model // 64), -(-8 * d_model // 96) * 32)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `LlamaForCausalLM` -> ours."""
    plain = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    if asked := [f"{key} {values[key]!r}" for key in plain if (values.get(key) or plain[key]) != plain[key]]:
        raise BundleError(
            f"config.json asks for {', '.join(asked)}, which this block does not have here; allowed: "
            "hidden_act silu, attention_bias and mlp_bias false"
        )
    rope = values.get("rope_parameters") or {}
    scaling = values.get("rope_scaling") or (rope if rope.get("rope_type", "default") != "default" else None)
    base = rope.get("rope_theta", values.get("rope_theta", 10_000.0))
    return _config(
        values["hidden_size"],
        values["num_hidden_layers"],
        values["num_attention_heads"],
        values["intermediate_size"],
        vocab_size=values["vocab_size"],
        attention=AttentionConfig(
            num_kv_heads=values.get("num_key_value_heads"), head_dim=values.get("head_dim")
        ),
        max_positions=values.get("max_position_embeddings", 2048),
        position=PositionConfig(kind="rotary", rotary_base=base, scaling=_read_scaling(scaling)),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        tie_embeddings=values.get("tie_word_embeddings", False),
        dropout=values.get("attention_dropout", 0.0),
    )


def _read_scaling(values: Mapping[str, Any] | None) -> RotaryScaling | None:
    if not values:
        return None
    kind = values.get("rope_type", values.get("type"))
    if kind == "default":
        return None
    if kind == "linear":
        return RotaryScaling(kind="linear", factor=values["factor"])
    if kind == "llama3":
        return RotaryScaling(
            kind="llama3",
            factor=values["factor"],
            low_frequency_factor=values["low_freq_factor"],
            high_frequency_factor=values["high_freq_factor"],
            original_positions=values["original_max_position_embeddings"],
        )
    raise BundleError(
        f"rotary scaling {kind!r} of config.json is not supported; allowed: default, linear, llama3"
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `LlamaForCausalLM`."""
    scaling = config.position.scaling
    rope: dict[str, Any] = {"rope_theta": config.position.rotary_base, "rope_type": "default"}
    if scaling is not None:
        rope |= {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind == "llama3":
            rope |= {
                "low_freq_factor": scaling.low_frequency_factor,
                "high_freq_factor": scaling.high_frequency_factor,
                "original_max_position_embeddings": scaling.original_positions,
            }
    return {
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.d_head,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "rope_parameters": rope,
        # The older spelling of the same, for tools that read no rope_parameters.
        "rope_theta": config.position.rotary_base,
        "rope_scaling": {key: rope[key] for key in rope if key != "rope_theta"} if scaling else None,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_dropout": config.dropout,
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": 0.02,
    }


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `LlamaForCausalLM`."""
    ours, theirs = "decoder.blocks.{i}", "model.layers.{i}"
    listed = [
        Rule("embed", "model.embed_tokens"),
        Rule("decoder.final_norm", "model.norm"),
        Rule(f"{ours}.attn_norm", f"{theirs}.input_layernorm"),
        Rule(f"{ours}.ffn_norm", f"{theirs}.post_attention_layernorm"),
        Rule(f"{ours}.attn.out", f"{theirs}.self_attn.o_proj"),
    ]
    listed += [Rule(f"{ours}.attn.{part}", f"{theirs}.self_attn.{part}_proj") for part in "qkv"]
    listed += [Rule(f"{ours}.ffn.{part}", f"{theirs}.mlp.{part}_proj") for part in ("gate", "up", "down")]
    return listed + decoder_head(config)


def architectures(name: str) -> dict[HeadKind, str]:
    """The published classes of a family that has the block."""
    return {
        "lm": f"{name}ForCausalLM",
        "classification": f"{name}ForSequenceClassification",
        "tagging": f"{name}ForTokenClassification",
    }


def require_plain_heads(config: ModelConfig) -> None:
    """Refuse heads that the family's published config has no word for."""
    if config.d_head * config.num_heads != config.d_model:
        raise ConfigError(
            f"head_dim={config.d_head} times num_heads={config.num_heads} must be d_model={config.d_model} "
            f"in the family {config.family}; leave head_dim out"
        )


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02) throughout."""
    initialization.normal(module, generator, std=0.02)


_GGUF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
}
_GGUF_LAYER |= {f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"}
_GGUF_LAYER |= {f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
GGUF_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"} | {
    f"blk.{{i}}.{theirs}": f"model.layers.{{i}}.{published}" for theirs, published in _GGUF_LAYER.items()
}

_LLAMA2 = {"max_positions": 4096, "norm_eps": 1e-5}

FAMILY = Family(
    name="llama",
    model_types=("llama",),
    architectures=architectures("Llama"),
    presets={
        "7b": _config(4096, 32, 32, 11_008),
        "13b": _config(5120, 40, 40, 13_824),
        "33b": _config(6656, 60, 52, 17_920),
        "65b": _config(8192, 80, 64, 22_016),
        "2-7b": _config(4096, 32, 32, 11_008, **_LLAMA2),
        "2-13b": _config(5120, 40, 40, 13_824, **_LLAMA2),
        "2-70b": _config(8192, 80, 64, 28_672, attention=GROUPED, **_LLAMA2),
        "3-8b": replace(
            _llama3(4096, 32, 32, 14_336, factor=8.0),
            max_positions=8192,
            position=PositionConfig(kind="rotary", rotary_base=500_000.0),
        ),
        "3.1-8b": _llama3(4096, 32, 32, 14_336, factor=8.0),
        "3.1-70b": _llama3(8192, 80, 64, 28_672, factor=8.0),
        "3.2-1b": _llama3(2048, 16, 32, 8192, factor=32.0, tie_embeddings=True),
        "3.2-3b": _llama3(3072, 28, 24, 8192, factor=32.0, tie_embeddings=True),
        "smollm2-135m": _smollm2(576, 30, 9, 1536, attention=AttentionConfig(num_kv_heads=3)),
        "smollm2-360m": _smollm2(960, 32, 15, 2560, attention=AttentionConfig(num_kv_heads=5)),
        "smollm2-1.7b": _smollm2(
            2048, 24, 32, 8192, position=PositionConfig(kind="rotary", rotary_base=130_000.0)
        ),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    ignored=IGNORED,
    copies=tied_output(EMBEDDING),
    prefix="model.",
    gguf=GgufForm(architectures=("llama",), names=GGUF_NAMES, interleaved=True),
)
