"""GPT (Radford et al. 2018): the decoder with learned positions, its norms after the residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.base.errors import ConfigError
from seedbed.models.config_json import ConfigKeys, make_config
from seedbed.models.families import gpt2
from seedbed.models.family import Family, decoder_head_rules, tied_output
from seedbed.models.weights import Rule
from seedbed.nn.config import POST, ModelConfig

KEYS = ConfigKeys(
    {**gpt2.KEYS.keys, "activation": "afn"},
    activations={"gelu": "gelu_tanh", "relu": "relu", "silu": "silu"},  # "gelu" of this class is by tanh
)


def sized(d_model: int, num_layers: int, **fields: Any) -> ModelConfig:
    """GPT's proportions: heads of 64, a feed-forward of 4 d_model."""
    base: dict[str, Any] = {"vocab_size": 40_478, "max_positions": 512, "residual": POST, "dropout": 0.1}
    return make_config("gpt", "decoder", d_model, num_layers, **base | fields)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `OpenAIGPTLMHeadModel` -> ours."""
    return sized(**KEYS.read(dict.fromkeys(gpt2.DROPOUTS, 0.1) | dict(values)))


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `OpenAIGPTLMHeadModel`."""
    if config.d_ff != 4 * config.d_model:
        raise ConfigError(f"GPT's d_ff is 4 d_model, {4 * config.d_model}, not {config.d_ff}; leave it out")
    return {"model_type": "openai-gpt"} | KEYS.write(config) | {"initializer_range": 0.02}


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `OpenAIGPTLMHeadModel`."""
    return [
        Rule("embed", "transformer.tokens_embed"),
        Rule("decoder.position", "transformer.positions_embed"),
        *gpt2.block_rules(),
        *decoder_head_rules(config),
    ]


FAMILY = Family(
    name="gpt",
    published_as="openai-gpt",
    architectures={"lm": "OpenAIGPTLMHeadModel"},
    presets={"117m": sized(768, 12)},
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    ignored=(r".*\.attn\.bias", r"transformer\.position_ids"),
    copies=tied_output("transformer.tokens_embed.weight"),
    prefix="transformer.",
)
