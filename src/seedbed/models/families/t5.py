"""T5 (Raffel et al. 1910.10683) and its version 1.1, as FLAN-T5 (2210.11416) has it: buckets of distances.

1.1 has a gated feed-forward and an untied output: published FLAN-T5 files contain an output, although recent
versions of `transformers` build it tied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch

from seedbed.base.errors import BundleError, ConfigError, nearest
from seedbed.models.config_json import ConfigKeys, make_config
from seedbed.models.family import Family, decoder_head_rules
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import Activation, AttentionConfig, EncoderConfig, ModelConfig, PositionConfig
from seedbed.nn.linear import named_parts
from seedbed.text.special_form import T5

# "gated-gelu" is the approximation by tanh, "gelu" alone is not.
ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "silu": "silu",
    "gated-relu": "relu",
    "gated-gelu": "gelu_tanh",
    "gated-silu": "silu",
}
KEYS = ConfigKeys(
    {
        "vocab_size": "vocab_size",
        "d_model": "d_model",
        "d_ff": "d_ff",
        "num_heads": "num_heads",
        "max_positions": "n_positions",
        "norm_eps": "layer_norm_epsilon",
        "tie_embeddings": "tie_word_embeddings",
        "dropout": "dropout_rate",
    }
)


def sized(d_model: int, num_layers: int, *shape: int, head_dim: int = 64, **fields: Any) -> ModelConfig:
    """T5's proportions, heads of 64 and a feed-forward of 4 d_model, or `shape` (num_heads, d_ff)."""
    base: dict[str, Any] = {
        "vocab_size": 32_128,
        "attention": AttentionConfig(head_dim=head_dim, scale=1.0),
        "max_positions": 512,
        "position": PositionConfig(kind="buckets"),
        "norm": "rms",
        "norm_eps": 1e-6,
        "bias": "none",
        "activation": "relu",
        "output_scale": d_model**-0.5,
        "dropout": 0.1,
    }
    return make_config("t5", "encoder-decoder", d_model, num_layers, *shape, **base | fields)


def _flan(*shape: int) -> ModelConfig:
    return sized(*shape, tie_embeddings=False, output_scale=1.0, activation="gelu_tanh", gated_ffn=True)


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`config.json` of `T5ForConditionalGeneration` -> ours."""
    activation = values.get("feed_forward_proj", "relu")
    if activation not in ACTIVATIONS:
        raise BundleError(f"feed_forward_proj {activation!r} is not T5's; allowed: {', '.join(ACTIVATIONS)}")
    fields, depth = KEYS.read(values), values["num_layers"]
    num_layers = values.get("num_decoder_layers") or depth
    encoder = EncoderConfig(num_layers=depth, num_heads=fields["num_heads"], d_ff=fields["d_ff"])
    scaled = values.get("scale_decoder_outputs", fields.get("tie_embeddings", True))
    return sized(
        num_layers=num_layers,
        head_dim=values.get("d_kv", 64),
        position=PositionConfig(
            kind="buckets",
            num_buckets=values.get("relative_attention_num_buckets", 32),
            max_distance=values.get("relative_attention_max_distance", 128),
        ),
        encoder=None if depth == num_layers else encoder,
        activation=ACTIVATIONS[activation],
        gated_ffn=activation.startswith("gated-"),
        output_scale=fields["d_model"] ** -0.5 if scaled else 1.0,
        **fields,
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours -> `config.json` of `T5ForConditionalGeneration`; ConfigError for another feed-forward."""
    gated = config.gated_ffn
    theirs = {ours: name for name, ours in ACTIVATIONS.items() if name.startswith("gated-") == gated}
    if config.activation not in theirs:
        raise ConfigError(
            f"T5 has no {'gated' if gated else 'plain'} feed-forward with activation={config.activation!r}; "
            f"{nearest(config.activation, theirs)}"
        )
    return KEYS.write(config) | {
        "model_type": "t5",
        "d_kv": config.d_head,
        "num_layers": config.encoder_config.num_layers,
        "num_decoder_layers": config.num_layers,
        "relative_attention_num_buckets": config.position.num_buckets,
        "relative_attention_max_distance": config.position.max_distance,
        "feed_forward_proj": theirs[config.activation],
        "scale_decoder_outputs": config.output_scale != 1,  # the key of newer tools
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "decoder_start_token_id": 0,
    }


def rules(config: ModelConfig) -> list[Rule]:
    """Names of `T5ForConditionalGeneration`."""
    names = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if config.gated_ffn else {"up": "wi", "down": "wo"}
    attention, ffn = {"q": "q", "k": "k", "v": "v", "out": "o"}, ("ffn", "DenseReluDense", names)
    own, cross = ("attn", "SelfAttention", attention), ("cross", "EncDecAttention", attention)
    listed = [Rule("embed", "shared")]
    for stack, branches in (("encoder", [own, ffn]), ("decoder", [own, cross, ffn])):
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        listed += [Rule(f"{stack}.buckets", bias), Rule(f"{stack}.final_norm", f"{stack}.final_layer_norm")]
        for number, (branch, published, parts) in enumerate(branches):
            ours, theirs = f"{stack}.blocks.{{i}}.{branch}", f"{stack}.block.{{i}}.layer.{number}"
            listed += [Rule(f"{ours}_norm", f"{theirs}.layer_norm")]
            listed += [Rule(f"{ours}.{a}", f"{theirs}.{published}.{b}") for a, b in parts.items()]
    return listed + decoder_head_rules(config)


def copies(config: ModelConfig) -> dict[str, str]:
    """The embedding, stored again for either stack, and as the output where it is tied."""
    stacks = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    tied = ["lm_head.weight"] if config.tie_embeddings else []
    return dict.fromkeys([*stacks, *tied], "shared.weight")


def config_from_names(config: ModelConfig, names: Collection[str]) -> ModelConfig:
    """Untie the output of a file that has one: newer tools write tied, but not scaled, for it."""
    own = config.output_scale == 1 and {"shared.weight", "lm_head.weight"} <= set(names)
    return replace(config, tie_embeddings=False) if own else config


@torch.no_grad()
def initialize(module: Transformer, generator: torch.Generator) -> None:
    """Embedding and output normal(0, 1), projections of variance 1 / d_in, by head_dim less for queries."""
    config = module.config
    for name, weight in named_parts(module):
        std = weight.size(-1) ** -0.5
        if name.endswith(("_norm.weight", "_norm")):
            weight.fill_(1.0)
            continue
        if name in ("embed.weight", "unembed.weight"):
            std = 1.0
        elif name.endswith("buckets.weight"):
            std = config.d_model**-0.5
        elif name.endswith(".q.weight"):
            std *= config.d_head**-0.5
        weight.normal_(0, std, generator=generator)


FAMILY = Family(
    name="t5",
    architectures={"lm": "T5ForConditionalGeneration"},
    presets={
        "small": sized(512, 6, 8, 2048),
        "base": sized(768, 12, 12, 3072),
        "large": sized(1024, 24, 16, 4096),
        "3b": sized(1024, 24, 32, 16_384, head_dim=128),
        "11b": sized(1024, 24, 128, 65_536, head_dim=128),
        "flan-small": _flan(512, 8, 6, 1024),
        "flan-base": _flan(768, 12, 12, 2048),
        "flan-large": _flan(1024, 24, 16, 2816),
        "flan-xl": _flan(2048, 24, 32, 5120),
        "flan-xxl": _flan(4096, 24, 64, 10_240),
    },
    read_config=read_config,
    write_config=write_config,
    sized=sized,
    rules=rules,
    initialize=initialize,
    special=T5,
    ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    copies=copies,
    config_from_names=config_from_names,
    objective="span_corruption",
    # Section 3.1.2's optimizer, its rate of the first 10,000 steps, and no weight decay.
    training={"optimizer": "adafactor", "learning_rate": 0.01, "weight_decay": 0.0},
)
