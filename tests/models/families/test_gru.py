"""The GRU, beside PyTorch's own."""

from tests.models.families.test_lstm import RecurrentOracle
from tests.models.reference import tiny

oracle = RecurrentOracle
CASES = {
    "gru": tiny("gru"),
}
COUNTS = {
    "small": 4_492_400,
    "medium": 18_087_800,
    "large": 57_028_000,
}
