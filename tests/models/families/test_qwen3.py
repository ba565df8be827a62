"""Qwen3: LLaMA's block with normed queries and keys."""

from tests.models.reference import tiny

CASES = {
    "qwen3": tiny("qwen3", num_heads=4).with_attention(num_kv_heads=2, head_dim=24),
    "qwen3 tied": tiny("qwen3", num_heads=4, tie_embeddings=True),
}
COUNTS = {
    "0.6b": 596_049_920,
    "1.7b": 1_720_574_976,
    "4b": 4_022_468_096,
    "8b": 8_190_735_360,
    "14b": 14_768_307_200,
    "32b": 32_762_123_264,
}
