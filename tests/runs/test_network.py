"""The config that a run's `[model]` table describes."""

from dataclasses import replace

import pytest

from seedbed.base.errors import ConfigError
from seedbed.models.family import Config
from seedbed.models.network import family
from seedbed.runs.network import configure
from seedbed.runs.settings import ModelSettings


def config_of(**settings: object) -> Config:
    return configure(ModelSettings(**settings), vocab_size=50, context_tokens=64)  # type: ignore[arg-type]


def test_attention_s_own_fields_are_keys_as_the_others_are() -> None:
    usual = replace(family("seedling").sized(64, 2), vocab_size=50, max_positions=64)
    found = config_of(family="seedling", d_model=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8)
    assert found == replace(usual, num_heads=4).with_attention(num_kv_heads=2, head_dim=8)
    assert config_of(family="seedling", d_model=64, num_layers=2) == usual


def test_a_family_without_attention_has_no_such_keys() -> None:
    with pytest.raises(
        ConfigError, match=r"the family lstm has no num_kv_heads; leave model\.num_kv_heads out"
    ):
        config_of(family="lstm", num_kv_heads=2)
