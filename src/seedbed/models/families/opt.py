"""OPT (Zhang et al. 2205.01068): a pre-norm decoder with learned positions, counted from 2, and ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.models.config_json import ConfigKeys, make_config, require_values
from seedbed.models.family import Family, decoder_head_rules, public_classes, tied_output
from seedbed.models.weights import Rule
from seedbed.nn.config import ModelConfig, PositionConfig

KEYS = ConfigKeys(
    {
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "d_ff": "ffn_dim",
        "max_positions": "max_position_embeddings",
        "activation": "activation_function",
        "tie_embeddings": "tie_word_embeddings",
        "dropout": "dropout",
    },
    activations={"relu": "relu", "gelu": "gelu"},
)
# The values of every OPT but the 350m, which are also the class's defaults.
FIXED = {
    "do_layer_norm_before": True,
    "_remove_final_layer_norm": False,
    "enable_bias": True,
    "layer_norm_elementwise_affine": True,
}


def sized(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    """OPT's proportions: heads of 64, a feed-forward of 4 d_model."""
    base: dict[str, Any] = {
        "vocab_size": 50_272,
        "max_positions": 2048,
        "position": PositionConfig(offset=2),
        "activation": "relu",
        "dropout": 0.1,
    }
    return make_config("opt", "decoder", d_model, num_layers, **base | fields)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `OPTForCausalLM` -> ours."""
    fixed = {"word_embed_proj_dim": values["hidden_size"], **FIXED}
    require_values(values, fixed, "only the 350m of the OPT family differs in it, and is not supported")
    return sized(**KEYS.read(values))


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `OPTForCausalLM`."""
    more = {"word_embed_proj_dim": config.d_model, "attention_dropout": config.dropout, "init_std": 0.02}
    return {"model_type": "opt"} | KEYS.write(config) | more | FIXED


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `OPTForCausalLM` and of the class with labels."""
    ours, theirs = "decoder.blocks.{i}", "model.decoder.layers.{i}"
    parts = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
    return [
        Rule("embed", "model.decoder.embed_tokens"),
        Rule("decoder.position", "model.decoder.embed_positions"),
        Rule("decoder.final_norm", "model.decoder.final_layer_norm"),
        Rule(f"{ours}.attn_norm", f"{theirs}.self_attn_layer_norm"),
        *(Rule(f"{ours}.attn.{a}", f"{theirs}.self_attn.{b}") for a, b in parts.items()),
        Rule(f"{ours}.ffn_norm", f"{theirs}.final_layer_norm"),
        Rule(f"{ours}.ffn.up", f"{theirs}.fc1"),
        Rule(f"{ours}.ffn.down", f"{theirs}.fc2"),
        *decoder_head_rules(config),
    ]


FAMILY = Family(
    name="opt",
    architectures=public_classes("OPT", ["lm", "classification"]),
    presets={
        "125m": sized(768, 12),
        "1.3b": sized(2048, 24),
        "2.7b": sized(2560, 32, num_heads=32),
        "6.7b": sized(4096, 32, num_heads=32),
        "13b": sized(5120, 40, num_heads=40),
        "30b": sized(7168, 48, num_heads=56),
        "66b": sized(9216, 64, num_heads=72),
        "175b": sized(12_288, 96, num_heads=96),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    copies=tied_output("model.decoder.embed_tokens.weight"),
    prefix="model.",
)
