"""The Transformer of 2017, beside Marian's class."""

from collections.abc import Callable
from typing import Any

from tests.models.reference import tiny

# The paper describes its initialisation, the class that stands for it has its own.
OWN_START = "Glorot's uniform, Vaswani et al. 2017; Marian's class draws from normal(0, 0.02)"
CASES = {
    "transformer": tiny("transformer", num_heads=4, max_positions=60),
}
COUNTS = {
    "base": 63_082_496,  # the paper says 65 and 213 million
    "big": 214_245_376,
}


def fill(oracle: Any, config: Any, fill_randomly: Callable[..., None]) -> None:
    """Marian's positions are parameters that never change."""
    fill_randomly(oracle)
    for stack in (oracle.model.encoder, oracle.model.decoder):
        stack.embed_positions.weight.data.copy_(stack.embed_positions.create_weight())
