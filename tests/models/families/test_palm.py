"""PaLM, beside Cohere's class."""

from tests.models.reference import tiny

OWN_START = "the paper describes its own, Cohere's class draws everything from one normal"
CASES = {
    "palm": tiny("palm", num_heads=4, output_scale=0.5).with_attention(head_dim=None),
}
COUNTS = {
    "8b": 8_632_012_800,  # the paper says 8.63, 62.50 and 540.35 billion
    "62b": 62_495_662_080,
    "540b": 540_356_474_880,
}
