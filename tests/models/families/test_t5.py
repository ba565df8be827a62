"""T5 and FLAN-T5."""

from collections.abc import Callable
from typing import Any

from tests.models.reference import tiny

from seedbed.nn.config import EncoderConfig, PositionConfig

# At a distance of 32 buckets end, so that rows of 23 tokens reach those that are not exact.
BUCKETS = PositionConfig(kind="buckets", num_buckets=16)
FLAN: dict[str, Any] = {
    "activation": "gelu_tanh",
    "gated_ffn": True,
    "tie_embeddings": False,
    "output_scale": 1.0,
}
CASES = {
    "t5": tiny("t5", num_heads=4, position=BUCKETS).with_attention(head_dim=8),
    "t5 uneven": tiny(
        "t5", num_heads=4, encoder=EncoderConfig(num_layers=2, num_heads=4, d_ff=256)
    ).with_attention(head_dim=16),
    "flan-t5": tiny("t5", num_heads=4, position=BUCKETS, **FLAN).with_attention(head_dim=8),
}
COUNTS = {
    "small": 60_506_624,
    "base": 222_903_552,
    "large": 737_668_096,
    "3b": 2_851_598_336,
    "11b": 11_307_321_344,
    "flan-small": 76_961_152,
    "flan-base": 247_577_856,
    "flan-large": 783_150_080,
    "flan-xl": 2_849_757_184,
    "flan-xxl": 11_135_332_352,
}


def fill(oracle: Any, config: Any, fill_randomly: Callable[..., None]) -> None:
    """Scores are not scaled: at 0.3 T5's own float32 is 4e-5 to 7e-4 away from its float64."""
    fill_randomly(oracle, std=0.15)
    if config.tie_embeddings:
        oracle.shared.weight.data *= 8  # a tied output is scaled down
