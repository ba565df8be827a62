"""GPT."""

from tests.models.reference import tiny

CASES = {
    "gpt": tiny("gpt", num_heads=4, max_positions=60),
}
COUNTS = {
    "117m": 116_534_784,
}
