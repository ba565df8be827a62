"""Qwen2 and Qwen2.5: LLaMA's block with biases on q, k and v."""

from typing import Any

import pytest
from tests.models.reference import tiny

from seedbed.base.errors import BundleError, ConfigError
from seedbed.models.network import family

CASES = {
    "qwen2": tiny("qwen2", num_heads=4).with_attention(num_kv_heads=2),
    "qwen2 tied": tiny("qwen2", num_heads=4, tie_embeddings=True),
}
COUNTS = {
    "0.5b": 494_032_768,
    "1.5b": 1_543_714_304,
    "7b": 7_615_616_512,
    "72b": 72_706_203_648,
    "2.5-0.5b": 494_032_768,
    "2.5-1.5b": 1_543_714_304,
    "2.5-3b": 3_085_938_688,
    "2.5-7b": 7_615_616_512,
    "2.5-14b": 14_770_033_664,
    "2.5-32b": 32_763_876_352,
    "2.5-72b": 72_706_203_648,
}


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    "change", [{"use_sliding_window": True}, {"layer_types": ["full_attention", "sliding_attention"]}]
)
def test_a_window_in_some_layers_is_refused(name: str, change: dict[str, Any]) -> None:
    chosen = family(name)
    with pytest.raises(BundleError, match="a sliding window in some of the layers"):
        chosen.read_config(chosen.write_config(tiny(name)) | change)


def test_heads_that_the_published_config_cannot_express_are_refused() -> None:
    with pytest.raises(ConfigError, match="head_dim=24 times num_heads=4 must be d_model=64"):
        family("qwen2").write_config(tiny("qwen2", num_heads=4).with_attention(head_dim=24))
