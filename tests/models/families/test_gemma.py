"""Gemma 1: norms counted from 1, scaled embeddings, a gated GELU."""

from typing import Any

import pytest
from tests.models.reference import tiny

from seedbed.base.errors import BundleError
from seedbed.models.network import family

CASES = {
    "gemma": tiny("gemma", num_heads=4).with_attention(num_kv_heads=1, head_dim=24),
    "gemma, all heads": tiny("gemma", num_heads=4),
}
COUNTS = {"2b": 2_506_172_416, "7b": 8_537_680_896}


@pytest.mark.parametrize(
    "legacy", [{"hidden_act": "gelu"}, {"hidden_act": "gelu", "hidden_activation": None}]
)
def test_the_activation_of_the_first_releases_is_the_one_they_meant(legacy: dict[str, Any]) -> None:
    values = family("gemma").write_config(tiny("gemma"))
    assert family("gemma").read_config(values | legacy).activation == "gelu_tanh"


@pytest.mark.parametrize("other", [{"hidden_act": "silu"}, {"use_bidirectional_attention": True}])
def test_another_familys_config_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="which Gemma 1 does not have"):
        family("gemma").read_config(family("gemma").write_config(tiny("gemma")) | other)
