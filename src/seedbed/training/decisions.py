"""Decisions during a run: where its training ends, and the schedule that leads there; each on disk first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.base.errors import ConfigError
from seedbed.base.files import disk_errors, sync
from seedbed.training.metrics import MetricsFile, valid_lines
from seedbed.training.settings import TrainingSettings, learning_rate_factor

DECISIONS = "decisions.jsonl"


class Decision(NamedTuple):
    """From `step` on, the training has `num_steps`, and a budget of so many seconds, if any.

    The seconds are those of the training from its first step, with the preparation of the last command.
    """

    step: int
    num_steps: int
    budget_seconds: float | None = None


def read_decisions(run: Path, known: Iterable[Sequence[Any]] = ()) -> tuple[Decision, ...]:
    """The decisions in the folder of a run, and those `known` from a checkpoint, by their step.

    One about an earlier step replaces those after it, because the run repeats these steps. A damaged one that
    no checkpoint knows is of steps that the run repeats.
    """
    path, found = run / DECISIONS, list[Decision]()
    for line in valid_lines(path) if path.exists() else ():
        found = [earlier for earlier in found if earlier.step < line["step"]]
        found.append(Decision(line["step"], line["num_steps"], line["budget_seconds"]))
    by_step = {decision.step: decision for decision in (*(Decision(*each) for each in known), *found)}
    return tuple(by_step[step] for step in sorted(by_step))


def append_decision(run: Path, decision: Decision) -> None:
    """Add a decision to those of a run; it is on disk when this returns."""
    path = run / DECISIONS
    file = MetricsFile(path)
    try:
        file.record({"kind": "decision", **decision._asdict()})
    finally:
        file.end()
    with disk_errors(path):
        sync(path)
        sync(run)


class _Segment(NamedTuple):
    """From `start` on, step t has the rate of the settings at step `origin + (t - start) * speed`."""

    start: int
    origin: float
    speed: float
    settings: TrainingSettings
    num_steps: int
    budget_seconds: float | None


class Schedule:
    """The end of a training and its learning rate at each step, as the settings and the decisions have them.

    Fewer steps traverse the rest of the schedule faster, up to the rate of its last step; more steps continue
    with the schedule of a training of so many.
    """

    def __init__(self, settings: TrainingSettings, decisions: Sequence[Decision] = ()) -> None:
        self.decisions: tuple[Decision, ...] = ()
        end = settings.num_steps
        self._segments = [_Segment(0, 0.0, 1.0, settings, end, settings.budget_seconds)]
        for decision in decisions:
            self.add(decision)

    def add(self, decision: Decision) -> None:
        """Add a decision about a later step than the others."""
        now, step, num_steps = self._segments[-1], decision.step, decision.num_steps
        if not now.start <= step <= num_steps:
            raise ConfigError(f"{num_steps} steps after step {step} are not allowed: choose {step} or more")
        settings, origin, speed = now.settings, float(step), 1.0
        if num_steps > now.num_steps:
            settings = replace(settings, num_steps=num_steps)
        else:
            origin, last = now.origin + (step - now.start) * now.speed, settings.num_steps - 1
            steps_left = num_steps - 1 - step
            speed = (last - origin) / steps_left if steps_left > 0 else 0.0
            origin = origin if steps_left > 0 else float(last)  # the only step left is the last one
        self._segments.append(_Segment(step, origin, speed, settings, num_steps, decision.budget_seconds))
        self.decisions = (*self.decisions, decision)

    @property
    def decided_step(self) -> int:
        """The step of the last decision; 0 without any."""
        return self._segments[-1].start

    def num_steps(self, step: int) -> int:
        """The number of steps of the training, as it is known after `step` of them."""
        return self._at(step).num_steps

    def budget_seconds(self, step: int) -> float | None:
        """The budget, as it is known after `step` steps."""
        return self._at(step).budget_seconds

    def factor(self, step: int) -> float:
        """The factor in 0..1 of the highest learning rate at step 0, 1, ..."""
        segment = self._at(step)
        return learning_rate_factor(segment.settings, segment.origin + (step - segment.start) * segment.speed)

    def _at(self, step: int) -> _Segment:
        return next(segment for segment in reversed(self._segments) if segment.start <= step)
