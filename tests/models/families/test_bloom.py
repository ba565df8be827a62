"""BLOOM."""

from tests.models.reference import tiny

CASES = {
    "bloom": tiny("bloom", num_heads=4),
    "bloom, heads between two powers of two": tiny("bloom", d_model=96, num_heads=6, d_ff=384),
}
COUNTS = {
    "560m": 559_214_592,
    "1b1": 1_065_314_304,
    "3b": 3_002_557_440,
    "7b1": 7_069_016_064,
    "176b": 176_247_271_424,
}
