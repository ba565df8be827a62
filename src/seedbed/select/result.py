"""The result of a rehearsal, as it is kept on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seedbed.select.compute import Shares

Parts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class RehearsalResult:
    """Seconds of a step's parts, its tokens on this rank, and bytes at the peak."""

    learning: float  # per token
    reading: float  # per token, as in an evaluation
    update: float
    sampling: float  # of a step's batches
    step_tokens: float
    shares: Shares
    quick: float  # seconds of a quick and of a slow step, as shares of a usual one
    slow: float
    error: tuple[float, float]  # by how much the times may be less and more
    seconds: float  # that the timing was allowed
    parts: Parts  # the tensors' bytes
    heap_bytes: int  # what the heap loses beside them

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RehearsalResult:
        """The result from its fields as JSON has them. Errors: KeyError, TypeError, ValueError."""
        found = cls(**{**values, "shares": Shares(*values["shares"]), "error": tuple(values["error"])})
        numbers = [found.learning, found.reading, found.update, found.sampling, found.step_tokens]
        numbers += [found.quick, found.slow, found.seconds, found.heap_bytes, *found.shares, *found.error]
        numbers += [found.parts["weights"], found.parts["optimizer"], *found.parts.values()]
        if not all(0 <= number < math.inf for number in numbers):
            raise ValueError("a figure of a rehearsal is negative or not finite")
        return found

    @property
    def spread(self) -> tuple[float, float]:
        """The range of the time, as shares of the predicted one."""
        less, more = self.error
        return self.quick * (1 - less), self.slow * (1 + more)
