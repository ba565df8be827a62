"""GPT-2."""

from tests.models.reference import tiny

CASES = {
    "gpt2": tiny("gpt2", num_heads=4, max_positions=60),
    "gpt2 narrow, untied": tiny(
        "gpt2", num_heads=2, d_ff=96, activation="relu", norm_eps=1e-3, tie_embeddings=False
    ),
}
COUNTS = {
    "124m": 124_439_808,
    "355m": 354_823_168,
    "774m": 774_030_080,
    "1558m": 1_557_611_200,
}
