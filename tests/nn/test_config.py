"""An invalid config is refused when it is made, with what is allowed."""

import re
from dataclasses import is_dataclass, replace
from typing import Any, get_type_hints

import pytest
from tests.nn.variants import words

import seedbed.nn.config as nn_config
from seedbed.base.errors import ConfigError
from seedbed.nn.config import (
    PRE,
    AttentionConfig,
    EncoderConfig,
    HeadConfig,
    ModelConfig,
    PositionConfig,
    RecurrentConfig,
    RotaryScaling,
)

MODEL = ModelConfig(
    family="gpt2", shape="decoder", vocab_size=11, d_model=12, num_layers=2, num_heads=3, d_ff=24
)
RECURRENT = RecurrentConfig(family="lstm", cell="lstm", vocab_size=11, d_model=12, num_layers=2)
ATTENTION, TWO, ODD = AttentionConfig(), AttentionConfig(num_kv_heads=2), AttentionConfig(head_dim=3)
ROTARY = PositionConfig(kind="rotary")
LLAMA3 = RotaryScaling(kind="llama3", factor=8.0)
MADE = [MODEL, RECURRENT, ATTENTION, ROTARY, LLAMA3, HeadConfig()]


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (MODEL, {"norm": "layr"}, "norm='layr' is not allowed; did you mean 'layer'? allowed: layer, "),
        (MODEL, {"residual": "post"}, "residual='post' is not allowed; allowed: a ResidualConfig"),
        (PRE, {"norms": ("middle",)}, "norms=('middle',) is not allowed; allowed: a tuple of input, sum"),
        (MODEL, {"d_model": "12"}, "d_model='12' is not allowed; allowed: a whole number"),
        (MODEL, {"d_model": 12.0}, "d_model=12.0 is not allowed; allowed: a whole number"),
        (MODEL, {"vocab_size": True}, "vocab_size=True is not allowed; allowed: a whole number"),
        (MODEL, {"tie_embeddings": 1}, "tie_embeddings=1 is not allowed; allowed: true or false"),
        (MODEL, {"norm_eps": float("nan")}, "norm_eps=nan is not allowed; allowed: a finite number"),
        (MODEL, {"position": {"kind": "rotary"}}, "is not allowed; allowed: a PositionConfig"),
        (MODEL, {"num_layers": 0}, "num_layers=0 must be at least 1"),
        (ATTENTION, {"num_kv_heads": 0}, "num_kv_heads=0 must be at least 1"),
        (
            MODEL,
            {"num_heads": 5},
            "d_model=12 cannot be split into num_heads=5 equal heads; choose a divisor",
        ),
        (ATTENTION, {"qk_norm": "layer"}, "qk_norm='layer' is not allowed; allowed: none, plain, rms"),
        (MODEL, {"attention": TWO}, "num_heads=3 is not a multiple of num_kv_heads=2"),
        (
            MODEL,
            {"position": ROTARY, "attention": ODD},
            "rotary positions rotate pairs, but head_dim=3 is odd",
        ),
        (MODEL, {"output_scale": 0.0}, "output_scale=0.0 is not allowed; allowed: a number other than 0"),
        (MODEL, {"dropout": 1.0}, "dropout=1.0 is not allowed: give a number of 0 or more and below 1"),
        (
            MODEL,
            {"encoder": EncoderConfig(num_layers=1, num_heads=5, d_ff=4)},
            "d_model=12 cannot be split into num_heads=5",
        ),
        (ROTARY, {"kind": "rotery"}, "kind='rotery' is not allowed; did you mean 'rotary'?"),
        (
            ROTARY,
            {"kind": "alibi", "scaling": LLAMA3},
            "position scaling belongs to kind 'rotary', not 'alibi'",
        ),
        (
            ROTARY,
            {"kind": "buckets", "max_distance": 16},
            "max_distance=16 must be greater than the 16 exact",
        ),
        (LLAMA3, {"kind": "yarn"}, "kind='yarn' is not allowed; allowed: linear, llama3"),
        (LLAMA3, {"factor": 0.5}, "rotary scaling needs factor >= 1"),
        (LLAMA3, {"low_frequency_factor": 4.0}, "and high_frequency_factor > low_frequency_factor"),
        (RECURRENT, {"cell": "gru2"}, "cell='gru2' is not allowed; did you mean 'gru'? allowed: gru, lstm"),
        (RECURRENT, {"d_model": 0}, "d_model=0 must be at least 1"),
        (RECURRENT, {"dropout": -0.1}, "dropout=-0.1 is not allowed: give a number of 0 or more and below 1"),
    ],
)
def test_an_invalid_value_is_refused(config: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        replace(config, **change)


WORDS = [
    (kind, name)
    for kind in vars(nn_config).values()
    if is_dataclass(kind) and isinstance(kind, type)
    for name in get_type_hints(kind)
    if words(kind, name) and all(isinstance(word, str) for word in words(kind, name))
]


@pytest.mark.parametrize(("kind", "name"), WORDS, ids=lambda one: getattr(one, "__name__", one))
def test_an_unknown_word_is_answered_with_the_known_ones(kind: Any, name: str) -> None:
    made = next(one for one in MADE if type(one) is kind)
    with pytest.raises(ConfigError, match=f"{name}='other' is not allowed; .*allowed: ") as refused:
        replace(made, **{name: "other"})
    assert all(word in str(refused.value) for word in words(kind, name))


def test_an_encoder_has_its_own_numbers_and_shares_the_rest() -> None:
    assert MODEL.encoder_config is MODEL
    own = replace(MODEL, encoder=EncoderConfig(num_layers=5, num_heads=2, d_ff=7)).encoder_config
    assert (own.num_layers, own.num_heads, own.d_ff, own.d_head) == (5, 2, 7, 6)
    assert own == replace(MODEL, num_layers=5, num_heads=2, d_ff=7)
