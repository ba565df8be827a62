"""Mistral: LLaMA's block, with a window and without."""

from tests.models.reference import tiny

CASES = {
    "mistral": tiny("mistral", num_heads=4).with_attention(num_kv_heads=2),
    "mistral window": tiny("mistral", num_heads=4).with_attention(num_kv_heads=2, window=6),
    "mistral window of one, tied": tiny("mistral", num_heads=4, tie_embeddings=True).with_attention(
        head_dim=24, window=1
    ),
}
COUNTS = {
    "7b-v0.1": 7_241_732_096,
    "7b-v0.2": 7_241_732_096,
    "7b-v0.3": 7_248_023_552,
    "nemo-12b": 12_247_782_400,
}
