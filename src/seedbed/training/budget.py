"""The time limit of a training: what its remaining steps cost as measured, and how many of them fit."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from seedbed.training.settings import TrainingSettings

TOLERANCE = 0.03  # of the budget, by which a projected end may be late before a training is shortened
MARGIN = 0.01  # of the budget, that a shortened training leaves unused
# The pace is measured over the last seconds, in blocks: their median ignores one that was interrupted.
WINDOW_SECONDS, WINDOW_SHARE, NUM_BLOCKS, SURE_BLOCKS = 3.0, 0.05, 5, 3


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds as planned; `end` is what comes after the training: bundle, report, the end of the process."""

    step: float
    evaluation: float
    checkpoint: float
    end: float


class Deadline:
    """The clock of a training with a budget; it only ever ends the training earlier, never later.

    `started` is when the command began, on `clock`; `num_steps` proposes an end.
    """

    def __init__(
        self, planned: Costs, *, started: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.planned, self.started, self.clock = planned, started, clock
        self.spent_seconds = 0.0  # by the training before this command
        self.budget_seconds = float("inf")
        self._lap_from = clock()
        # Seconds of the last evaluation and checkpoint, and of a step at that time.
        self._measured: dict[str, tuple[float, float]] = {
            kind: (getattr(planned, kind), planned.step) for kind in ("evaluation", "checkpoint", "end")
        }
        self._blocks: deque[float] = deque(maxlen=NUM_BLOCKS)  # seconds per step
        self._block_seconds, self._block_steps = 0.0, 0

    def begin(self, *, spent_seconds: float, budget_seconds: float | None) -> None:
        """Start to count, after `spent_seconds` of training in earlier commands."""
        self.spent_seconds = spent_seconds
        self.budget_seconds = float("inf") if budget_seconds is None else budget_seconds
        self._lap_from = self.clock()

    def lap(self, kind: str) -> None:
        """Count the time since the last lap as a `step`, an `evaluation` or a `checkpoint`."""
        now = self.clock()
        seconds, self._lap_from = now - self._lap_from, now
        if kind != "step":
            self._measured[kind] = (seconds, self.pace())
            return
        self._block_seconds, self._block_steps = self._block_seconds + seconds, self._block_steps + 1
        window = max(WINDOW_SECONDS, WINDOW_SHARE * min(self.budget_seconds, 1e6))
        if self._block_seconds >= window / NUM_BLOCKS:
            self._blocks.append(self._block_seconds / self._block_steps)
            self._block_seconds, self._block_steps = 0.0, 0

    def pace(self) -> float:
        """Seconds per step, as measured of late, or as planned."""
        return median(self._blocks) if self._blocks else self.planned.step

    def num_steps(self, step: int, planned_end: int, settings: TrainingSettings) -> int:
        """The number of steps to end with, if that is to be lowered after `step`; else 0."""
        left = self.budget_seconds - self.spent_seconds - (self.clock() - self.started)
        if left == float("inf") or not self._blocks:
            return 0

        def cost(num_steps: int) -> float:
            return self._cost(step, num_steps, settings)

        if cost(planned_end) <= left + TOLERANCE * self.budget_seconds:
            return 0
        # The first steps are slow, so few of them are no measurement, unless nothing is left to wait for.
        is_sure = len(self._blocks) >= SURE_BLOCKS
        if not is_sure and cost(step) + SURE_BLOCKS * self.pace() <= left:
            return 0
        numbers = range(step, planned_end)
        return numbers[max(1, bisect_right(numbers, left - MARGIN * self.budget_seconds, key=cost)) - 1]

    def unused_share(self) -> float:
        """The share that is left of this command's part of the budget; 0 without a budget."""
        own = self.budget_seconds - self.spent_seconds
        left = own - (self.clock() - self.started)
        return left / own if 0 < left < float("inf") else 0.0

    def _cost(self, step: int, num_steps: int, settings: TrainingSettings) -> float:
        """Seconds from `step` to the end of the command, if the training has `num_steps`."""

        def due(every: int) -> int:
            """How often, from this step on; the end counts once."""
            return (num_steps - 1) // every - (step - 1) // every + 1

        seconds = self.pace() * (num_steps - step) + self._estimate("end")
        # The best weights are evaluated once more, for the figures of the report.
        num_evaluations = due(settings.evaluate_every_steps) + 1 + (settings.average_checkpoints is not None)
        seconds += self._estimate("evaluation") * num_evaluations
        return seconds + self._estimate("checkpoint") * due(settings.checkpoint_every_steps)

    def _estimate(self, kind: str) -> float:
        """Seconds of an evaluation, a checkpoint or the end, as last measured, at the pace of now."""
        seconds, pace_then = self._measured[kind]
        return seconds * max(1.0, self.pace() / pace_then) if pace_then else seconds
