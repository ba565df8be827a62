"""RoBERTa."""

from tests.models.reference import tiny

CASES = {
    "roberta": tiny("roberta", num_heads=4, max_positions=60),
}
COUNTS = {
    "base": 124_697_433,
    "large": 355_412_057,
}
