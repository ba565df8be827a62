"""LLaMA (Touvron et al. 2302.13971; Meta 2407.21783): rotary positions, RMSNorm, SwiGLU, no biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.base.errors import BundleError
from seedbed.models.config_json import ConfigKeys, make_config, require_values
from seedbed.models.family import Family, GgufForm, decoder_head_rules, public_classes, tied_output
from seedbed.models.weights import Rule
from seedbed.nn.config import AttentionConfig, ModelConfig, PositionConfig, RotaryScaling

KEYS = ConfigKeys(
    {
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "d_ff": "intermediate_size",
        "max_positions": "max_position_embeddings",
        "norm_eps": "rms_norm_eps",
        "tie_embeddings": "tie_word_embeddings",
        "dropout": "attention_dropout",
    }
)
FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
SCALING_KEYS: dict[str, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_frequency_factor": "low_freq_factor",
        "high_frequency_factor": "high_freq_factor",
        "original_positions": "original_max_position_embeddings",
    },
}
GROUPED = AttentionConfig(num_kv_heads=8)


def sized(d_model: int, num_layers: int, *shape: int, family: str = "llama", **fields: Any) -> ModelConfig:
    """LLaMA's block; without a `shape` (num_heads, d_ff), heads of 64 and a feed-forward of 8/3 d_model."""
    base: dict[str, Any] = {
        "d_ff": -(-8 * d_model // 96) * 32,
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
    return make_config(family, "decoder", d_model, num_layers, *shape, **base | fields)


def _llama3(*shape: int, factor: float | None, **fields: Any) -> ModelConfig:
    scaling = None if factor is None else RotaryScaling(kind="llama3", factor=factor)
    base: dict[str, Any] = {
        "vocab_size": 128_256,
        "attention": GROUPED,
        "max_positions": 131_072,
        "norm_eps": 1e-5,
        "position": PositionConfig(kind="rotary", rotary_base=500_000.0, scaling=scaling),
    }
    return sized(*shape, **base | fields)


def _smollm2(*shape: int, num_kv_heads: int | None, rotary_base: float = 100_000.0) -> ModelConfig:
    """Ben Allal et al. 2502.02737."""
    return sized(
        *shape,
        vocab_size=49_152,
        attention=AttentionConfig(num_kv_heads=num_kv_heads),
        max_positions=8192,
        position=PositionConfig(kind="rotary", rotary_base=rotary_base),
        norm_eps=1e-5,
        tie_embeddings=True,
    )


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `LlamaForCausalLM` -> ours."""
    require_values(values, FIXED, "LLaMA's block has SiLU and no such biases")
    rope = values.get("rope_parameters") or {}
    scaling = values.get("rope_scaling") or (rope if rope.get("rope_type", "default") != "default" else None)
    base = rope.get("rope_theta", values.get("rope_theta", 10_000.0))
    kv_heads, head_dim = values.get("num_key_value_heads"), values.get("head_dim")
    return sized(
        attention=AttentionConfig(num_kv_heads=kv_heads, head_dim=head_dim),
        position=PositionConfig(kind="rotary", rotary_base=base, scaling=_read_scaling(scaling)),
        **KEYS.read(values),
    )


def _read_scaling(values: Mapping[str, Any] | None) -> RotaryScaling | None:
    if not values:
        return None
    kind: Any = values.get("rope_type", values.get("type"))
    if kind == "default":
        return None
    if kind not in SCALING_KEYS:
        allowed = ", ".join(["default", *SCALING_KEYS])
        raise BundleError(f"rotary scaling {kind!r} of config.json is not supported; allowed: {allowed}")
    return RotaryScaling(kind=kind, **{name: values[key] for name, key in SCALING_KEYS[kind].items()})


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `LlamaForCausalLM`."""
    scaling = config.position.scaling
    rope: dict[str, Any] = {"rope_theta": config.position.rotary_base, "rope_type": "default"}
    if scaling is not None:
        rope["rope_type"] = scaling.kind
        rope |= {key: getattr(scaling, name) for name, key in SCALING_KEYS[scaling.kind].items()}
    more = {
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.d_head,
        "rope_parameters": rope,
        # The legacy spelling of the same, for tools that do not read rope_parameters.
        "rope_theta": config.position.rotary_base,
        "rope_scaling": {key: rope[key] for key in rope if key != "rope_theta"} if scaling else None,
        "initializer_range": 0.02,
    }
    return {"model_type": "llama"} | KEYS.write(config) | FIXED | more


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `LlamaForCausalLM`."""
    ours, theirs = "decoder.blocks.{i}", "model.layers.{i}"
    return [
        Rule("embed", "model.embed_tokens"),
        Rule("decoder.final_norm", "model.norm"),
        Rule(f"{ours}.attn_norm", f"{theirs}.input_layernorm"),
        Rule(f"{ours}.ffn_norm", f"{theirs}.post_attention_layernorm"),
        Rule(f"{ours}.attn.out", f"{theirs}.self_attn.o_proj"),
        *(Rule(f"{ours}.attn.{part}", f"{theirs}.self_attn.{part}_proj") for part in "qkv"),
        *(Rule(f"{ours}.ffn.{part}", f"{theirs}.mlp.{part}_proj") for part in ("gate", "up", "down")),
        *decoder_head_rules(config),
    ]


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

LLAMA2: dict[str, Any] = {"max_positions": 4096, "norm_eps": 1e-5}

FAMILY = Family(
    name="llama",
    architectures=public_classes("Llama"),
    presets={
        "7b": sized(4096, 32, 32, 11_008),
        "13b": sized(5120, 40, 40, 13_824),
        "33b": sized(6656, 60, 52, 17_920),
        "65b": sized(8192, 80, 64, 22_016),
        "2-7b": sized(4096, 32, 32, 11_008, **LLAMA2),
        "2-13b": sized(5120, 40, 40, 13_824, **LLAMA2),
        "2-70b": sized(8192, 80, 64, 28_672, attention=GROUPED, **LLAMA2),
        "3-8b": _llama3(4096, 32, 32, 14_336, factor=None, max_positions=8192),
        "3.1-8b": _llama3(4096, 32, 32, 14_336, factor=8.0),
        "3.1-70b": _llama3(8192, 80, 64, 28_672, factor=8.0),
        "3.2-1b": _llama3(2048, 16, 32, 8192, factor=32.0, tie_embeddings=True),
        "3.2-3b": _llama3(3072, 28, 24, 8192, factor=32.0, tie_embeddings=True),
        "smollm2-135m": _smollm2(576, 30, 9, 1536, num_kv_heads=3),
        "smollm2-360m": _smollm2(960, 32, 15, 2560, num_kv_heads=5),
        "smollm2-1.7b": _smollm2(2048, 24, 32, 8192, num_kv_heads=None, rotary_base=130_000.0),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    ignored=(r".*\.rotary_emb\.inv_freq",),
    copies=tied_output("model.embed_tokens.weight"),
    prefix="model.",
    gguf=GgufForm(names=GGUF_NAMES, interleaved=True),
)
