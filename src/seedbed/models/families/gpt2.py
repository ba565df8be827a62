"""GPT-2 (Radford et al. 2019): a pre-norm decoder with learned positions, weights stored (in, out)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from seedbed.models import initialization
from seedbed.models.config_json import ConfigKeys, make_config, require_values
from seedbed.models.family import Family, decoder_head_rules, public_classes, tied_output
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import ModelConfig

DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
KEYS = ConfigKeys(
    {
        "vocab_size": "vocab_size",
        "d_model": "n_embd",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "max_positions": "n_positions",
        "norm_eps": "layer_norm_epsilon",
        "activation": "activation_function",
        "tie_embeddings": "tie_word_embeddings",
        "dropout": DROPOUTS,
    },
    activations={
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu": "gelu",
        "relu": "relu",
    },
)


def sized(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    """GPT-2's proportions: heads of 64, a feed-forward of 4 d_model."""
    base: dict[str, Any] = {"vocab_size": 50_257, "max_positions": 1024, "dropout": 0.1}
    return make_config("gpt2", "decoder", d_model, num_layers, **base | fields)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `GPT2LMHeadModel` -> ours."""
    scaling = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
    require_values(values, scaling, "OpenAI's GPT-2 scales attention by 1 / sqrt(head_dim)")
    fields = KEYS.read(dict.fromkeys(DROPOUTS, 0.1) | dict(values))
    return sized(d_ff=values.get("n_inner") or 4 * fields["d_model"], **fields)


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `GPT2LMHeadModel`."""
    more = {"n_inner": config.d_ff, "n_ctx": config.max_positions, "initializer_range": 0.02}
    return {"model_type": "gpt2"} | KEYS.write(config) | more


def block_rules() -> list[Rule]:
    """Names of a block, which GPT's class shares."""
    ours, theirs = "decoder.blocks.{i}", "transformer.h.{i}"
    return [
        Rule(f"{ours}.attn_norm", f"{theirs}.ln_1"),
        Rule(tuple(f"{ours}.attn.{part}" for part in "qkv"), f"{theirs}.attn.c_attn", "transposed"),
        Rule(f"{ours}.attn.out", f"{theirs}.attn.c_proj", "transposed"),
        Rule(f"{ours}.ffn_norm", f"{theirs}.ln_2"),
        Rule(f"{ours}.ffn.up", f"{theirs}.mlp.c_fc", "transposed"),
        Rule(f"{ours}.ffn.down", f"{theirs}.mlp.c_proj", "transposed"),
    ]


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `GPT2LMHeadModel`."""
    return [
        Rule("embed", "transformer.wte"),
        Rule("decoder.position", "transformer.wpe"),
        Rule("decoder.final_norm", "transformer.ln_f"),
        *block_rules(),
        *decoder_head_rules(config, tags="classifier"),
    ]


def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Normal(0, 0.02), the ends of branches scaled by 1 / sqrt(2 num_layers) (section 2.3)."""
    ends, std = (".out", ".down"), 0.02 / math.sqrt(2 * module.config.num_layers)
    initialization.normal(module, generator, std=lambda name, _: std if name.endswith(ends) else 0.02)


FAMILY = Family(
    name="gpt2",
    architectures=public_classes("GPT2") | {"lm": "GPT2LMHeadModel"},
    presets={
        "124m": sized(768, 12),
        "355m": sized(1024, 24),
        "774m": sized(1280, 36),
        "1558m": sized(1600, 48),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    ignored=(r".*\.attn\.(masked_)?bias",),
    copies=tied_output("transformer.wte.weight"),
    prefix="transformer.",
)
