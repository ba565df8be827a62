"""What was measured of a step: its seconds and its bytes, as they are kept on disk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from seedbed.select.compute import Shares

Parts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Seconds of a step's parts, its tokens on this rank, and the process's bytes around the real steps."""

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
    library_bytes: int  # in use after the real steps, all of their tensors freed
    used_bytes: int | None  # by the real steps at their peak; None if they were cut, or cannot be measured

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StepTimes:
        """The times from their fields as JSON has them. Errors: KeyError, TypeError, ValueError."""
        found = cls(**{**values, "shares": Shares(*values["shares"]), "error": tuple(values["error"])})
        numbers = [found.learning, found.reading, found.update, found.sampling, found.step_tokens]
        numbers += [found.quick, found.slow, found.seconds, *found.shares, *found.error]
        _require_numbers([*numbers, found.library_bytes, found.used_bytes or 0])
        return found

    @property
    def step_seconds(self) -> float:
        """Of a usual step."""
        return self.learning * self.step_tokens + self.update + self.sampling

    @property
    def reading_seconds(self) -> float:
        """Per token of an evaluation."""
        return self.reading + self.sampling / self.step_tokens

    @property
    def spread(self) -> tuple[float, float]:
        """The range of the time, as shares of the predicted one."""
        less, more = self.error
        return self.quick * (1 - less), self.slow * (1 + more)


@dataclass(frozen=True, kw_only=True)
class StepBytes:
    """Bytes at the peak of a step on the meta device."""

    parts: Parts  # of its tensors; "temporary" is all that has no other name
    heap_bytes: int  # what the heap loses beside them
    library_bytes: int = 0  # that the process uses after it
    before_bytes: int = 0  # at the peak of what the process has done before a training, measuring included

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StepBytes:
        """The bytes from their fields as JSON has them. Errors: KeyError, TypeError, ValueError."""
        found = cls(**values)
        _require_numbers([found.parts["weights"], found.parts["optimizer"], *found.parts.values()])
        _require_numbers([found.heap_bytes, found.library_bytes, found.before_bytes])
        return found


def _require_numbers(numbers: Iterable[float]) -> None:
    if not all(0 <= number < math.inf for number in numbers):
        raise ValueError("a figure that was measured is negative or not finite")
