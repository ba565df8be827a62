"""Tables of the keys of `config.json`: what they read, write and refuse."""

from dataclasses import replace
from typing import Any

import pytest

from seedbed.base.errors import BundleError, ConfigError
from seedbed.models.config_json import ConfigKeys, make_config, require_values

KEYS = ConfigKeys(
    {"d_model": "n_embd", "activation": "afn", "dropout": ("resid_pdrop", "attn_pdrop")},
    activations={"gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "relu": "relu"},
)


def test_the_largest_of_several_keys_is_read_and_all_are_written() -> None:
    values = {"n_embd": 64, "afn": "gelu_fast", "resid_pdrop": 0.1, "attn_pdrop": 0.2, "other": 1}
    fields = KEYS.read(values)
    assert fields == {"d_model": 64, "activation": "gelu_tanh", "dropout": 0.2}
    written = KEYS.write(make_config("gpt2", "decoder", num_layers=1, vocab_size=9, **fields))
    assert written == {"n_embd": 64, "afn": "gelu_new", "resid_pdrop": 0.2, "attn_pdrop": 0.2}


def test_a_key_that_is_absent_keeps_the_default_unless_it_is_a_size() -> None:
    assert KEYS.read({"n_embd": 8, "attn_pdrop": 0.0}) == {"d_model": 8, "dropout": 0.0}
    with pytest.raises(KeyError, match="n_embd"):
        KEYS.read({})
    with pytest.raises(ConfigError, match="d_model='8' is not allowed; allowed: a whole number"):
        KEYS.read({"n_embd": "8"})


def test_an_activation_without_a_name_is_refused_in_both_directions() -> None:
    with pytest.raises(BundleError, match=r"has afn='silu', .*; allowed: gelu_new, gelu_fast, relu"):
        KEYS.read({"n_embd": 8, "afn": "silu"})
    config = make_config("gpt2", "decoder", 8, 1, vocab_size=9)
    with pytest.raises(ConfigError, match="gpt2 has no activation='silu'; allowed: gelu_tanh, relu"):
        KEYS.write(replace(config, activation="silu"))


@pytest.mark.parametrize("values", [{}, {"bias": None}, {"bias": False}, {"act": "silu", "bias": 0}])
def test_the_allowed_values_pass(values: dict[str, Any]) -> None:
    require_values(values, {"act": "silu", "bias": False}, "the block is plain")


def test_all_refused_values_are_in_one_line() -> None:
    message = "config.json has act=None, bias=True, but the block is plain; allowed: act='silu', bias=False"
    with pytest.raises(BundleError, match=message):
        require_values({"act": None, "bias": True}, {"act": "silu", "bias": False}, "the block is plain")
