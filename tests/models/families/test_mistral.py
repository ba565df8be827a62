"""Mistral: LLaMA's block, with a window and without."""

from tests.models.reference import tiny

from seedbed.nn.config import PositionConfig


def window(num_tokens: int) -> PositionConfig:
    return PositionConfig(kind="rotary", window=num_tokens)


CASES = {
    "mistral": tiny("mistral", num_heads=4, num_kv_heads=2),
    "mistral window": tiny("mistral", num_heads=4, num_kv_heads=2, position=window(6)),
    "mistral window of one, tied": tiny(
        "mistral", num_heads=4, head_dim=24, tie_embeddings=True, position=window(1)
    ),
}
COUNTS = {
    "7b-v0.1": 7_241_732_096,
    "7b-v0.2": 7_241_732_096,
    "7b-v0.3": 7_248_023_552,
    "nemo-12b": 12_247_782_400,
}
