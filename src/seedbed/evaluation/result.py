"""The result of an evaluation: scores with intervals, and the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from seedbed.evaluation.metrics.bootstrap import Score

Scores = dict[str, Score]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The scores of a task, each with its 95% interval; the first metric is the main one.

    `by_calibration` has them for labels by likelihood with each calibration, `variants` for each draw and
    order; `answers` are the records with `prediction` and `score`.
    """

    task: str
    num_records: int
    num_shots: int
    answering: str
    chat: bool
    metrics: Scores
    seconds: float
    by_calibration: dict[str, Scores] = field(default_factory=dict)
    variants: dict[str, dict[str, Scores]] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    confusion: list[list[int]] | None = None
    num_fewer_shots: int = 0  # records whose prompt has not all of them
    answers: list[dict[str, Any]] = field(default_factory=list, repr=False)
    values: list[float] = field(default_factory=list, repr=False)  # of the main metric, for each record

    @property
    def score(self) -> Score:
        """The main metric's."""
        return next(iter(self.metrics.values()))

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON, without the answers."""
        found: dict[str, Any] = {"task": self.task, "metrics": plain(self.metrics)}
        for name in ("num_records", "num_shots", "answering", "chat", "num_fewer_shots", "seconds"):
            found[name] = getattr(self, name)
        found["signatures"] = self.signatures
        if self.by_calibration:
            found["by_calibration"] = {name: plain(one) for name, one in self.by_calibration.items()}
        if len(self.variants) > 1:
            found["variants"] = {
                name: {kind: plain(one) for kind, one in each.items()} for name, each in self.variants.items()
            }
        if self.confusion is not None:
            found |= {"labels": self.labels, "confusion": self.confusion}
        return found


def plain(scores: Scores) -> dict[str, Any]:
    """Scores as JSON."""
    return {name: score.to_dict() for name, score in scores.items()}
