"""LLaMA, all generations."""

from tests.models.reference import tiny

from seedbed.nn.config import PositionConfig, RotaryScaling


def rotary(kind: str, **values: float) -> PositionConfig:
    return PositionConfig(kind="rotary", rotary_base=100.0, scaling=RotaryScaling(kind=kind, **values))


# With a base of 100 and 16 original positions, heads of 16 have frequencies in all three parts of the curve.
LLAMA3 = rotary("llama3", factor=8.0, original_positions=16)
CASES = {
    "llama": tiny("llama", num_heads=4),
    "llama grouped-query, llama3": tiny("llama", num_heads=4, position=LLAMA3).with_attention(num_kv_heads=2),
    "llama multi-query, linear": tiny(
        "llama", num_heads=4, position=rotary("linear", factor=4.0), tie_embeddings=True
    ).with_attention(num_kv_heads=1),
    "llama wide heads": tiny("llama", num_heads=4, norm_eps=1e-3).with_attention(head_dim=24),
}
COUNTS = {
    "7b": 6_738_415_616,
    "13b": 13_015_864_320,
    "33b": 32_528_943_616,
    "65b": 65_285_660_672,
    "2-7b": 6_738_415_616,
    "2-13b": 13_015_864_320,
    "2-70b": 68_976_648_192,
    "3-8b": 8_030_261_248,
    "3.1-8b": 8_030_261_248,
    "3.1-70b": 70_553_706_496,
    "3.2-1b": 1_235_814_400,
    "3.2-3b": 3_212_749_824,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
}
