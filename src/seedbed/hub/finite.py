"""Numbers that are not finite among weights: counted while they are read, told in one warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from seedbed.base.errors import SeedbedWarning


def num_not_finite(tensor: Tensor) -> int:
    """How many numbers of a tensor are infinite or none at all."""
    if tensor.itemsize == 1:  # torch cannot sum what has 8 bits
        tensor = tensor.to(torch.float32)
    # One pass over the memory, three times as fast as asking each number; a sum may overflow by itself.
    if tensor.sum().isfinite():
        return 0
    return int((~tensor.isfinite()).sum())


def warn_unless_finite(path: Path, counts: Mapping[str, int]) -> None:
    """Warn of the numbers that are not finite, `counts` by tensor, in what was read from a path."""
    bad = {name: count for name, count in counts.items() if count}
    if bad:
        count, name = sum(bad.values()), next(iter(bad))
        numbers = "1 number that is" if count == 1 else f"{count:,} numbers that are"
        warnings.warn(
            f"{path} holds {numbers} not finite, first in {name}; what the model says is worth nothing: "
            "write or download the file again",
            SeedbedWarning,
            stacklevel=3,
        )
