"""The time limit of a training: what its remaining steps cost as measured, and how many of them fit."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from seedbed.training.settings import TrainingSettings

TOLERANCE = 0.03  # of the budget, by which a projected end may be late before a training is shortened
MARGIN = 0.01  # of the budget, that a shortened training leaves unused
# The pace is the median of blocks of steps, over as many seconds as half of what is left: a shorter pause of
# the machine is past before it counts, and a longer one is noticed while four fifths of the time are left.
WINDOW_SHARE, WINDOW_SECONDS, NUM_BLOCKS, SURE_BLOCKS = 0.5, 3.0, 5, 3
# Beside a process that takes a core, work on several threads is up to four times slower, and one thread or
# files up to twice (docs/LOG.md, 2026-11-24, "how threads wait"); a few steps may be slower still.
MOST_SLOWER = {"evaluation": 4.0, "checkpoint": 2.0, "end": 2.0}
BLOCK_SECONDS, BLOCK_SHARE = 0.6, 0.01  # at least, and of the time that this command has


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
        self._blocks: list[tuple[float, int]] = []  # seconds, steps
        self._block_seconds, self._block_steps, self._pace = 0.0, 0, planned.step

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
            self._measured[kind] = (seconds, self._median_pace(0.0))
            return
        self._block_seconds, self._block_steps = self._block_seconds + seconds, self._block_steps + 1
        if self._block_seconds >= max(BLOCK_SECONDS, BLOCK_SHARE * self._own_seconds()):
            self._blocks.append((self._block_seconds, self._block_steps))
            self._block_seconds, self._block_steps = 0.0, 0
            self._pace = self._median_pace(self._window_seconds())

    def _own_seconds(self) -> float:
        """Seconds of the budget that this command has."""
        return self.budget_seconds - self.spent_seconds

    def _left_seconds(self) -> float:
        return self._own_seconds() - (self.clock() - self.started)

    def _window_seconds(self) -> float:
        """Seconds over which the pace is measured."""
        return max(WINDOW_SECONDS, WINDOW_SHARE * self._left_seconds())

    def _median_pace(self, window_seconds: float) -> float:
        """Seconds per step over the last seconds, of a few blocks at least, or as planned."""
        paces, seconds = [], 0.0
        for block_seconds, num_steps in reversed(self._blocks):
            paces.append(block_seconds / num_steps)
            seconds += block_seconds
            if len(paces) >= NUM_BLOCKS and seconds >= window_seconds:
                break
        return median(paces) if paces else self.planned.step

    def num_steps(self, step: int, planned_end: int, settings: TrainingSettings) -> int:
        """The number of steps to end with, if that is to be lowered after `step`; else 0."""
        left = self._left_seconds()
        if left == float("inf") or not self._blocks:
            return 0

        def cost(num_steps: int) -> float:
            return self._cost(step, num_steps, settings)

        if cost(planned_end) <= left + TOLERANCE * self.budget_seconds:
            return 0
        # The first steps are slow, so few of them are no measurement, unless nothing is left to wait for.
        measured = sum(seconds for seconds, _ in self._blocks)
        is_sure = len(self._blocks) >= SURE_BLOCKS and measured >= self._window_seconds() / 2
        if not is_sure and cost(step) + SURE_BLOCKS * self._pace <= left:
            return 0
        numbers = range(step, planned_end)
        return numbers[max(1, bisect_right(numbers, left - MARGIN * self.budget_seconds, key=cost)) - 1]

    def unused_share(self) -> float:
        """The share that is left of this command's part of the budget; 0 without a budget."""
        left = self._left_seconds()
        return left / self._own_seconds() if 0 < left < float("inf") else 0.0

    def _cost(self, step: int, num_steps: int, settings: TrainingSettings) -> float:
        """Seconds from `step` to the end of the command, if the training has `num_steps`."""

        def due(every: int) -> int:
            """How often, from this step on; the end counts once."""
            return (num_steps - 1) // every - (step - 1) // every + 1

        seconds = self._pace * (num_steps - step) + self._estimate("end")
        # The best weights are evaluated once more, for the figures of the report.
        num_evaluations = due(settings.evaluate_every_steps) + 1 + (settings.average_checkpoints is not None)
        seconds += self._estimate("evaluation") * num_evaluations
        return seconds + self._estimate("checkpoint") * due(settings.checkpoint_every_steps)

    def _estimate(self, kind: str) -> float:
        """Seconds of an evaluation, a checkpoint or the end, as last measured, at the pace of now."""
        seconds, pace_then = self._measured[kind]
        slower = self._pace / pace_then if pace_then else 1.0
        return seconds * min(MOST_SLOWER[kind], max(1.0, slower))
