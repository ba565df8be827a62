"""BART."""

from tests.models.reference import tiny

from seedbed.nn.config import EncoderConfig

CASES = {
    "bart": tiny("bart", num_heads=4, max_positions=60),
    "bart uneven": tiny(
        "bart",
        num_heads=4,
        activation="relu",
        embedding_scale=8.0,
        encoder=EncoderConfig(num_layers=4, num_heads=2, d_ff=80),
    ),
}
COUNTS = {
    "base": 139_420_416,
    "large": 406_291_456,
}
