"""What a task is; the tasks are the files of `seedbed.evaluation.tasks`."""

from __future__ import annotations

from dataclasses import dataclass

from seedbed.base.plugins import PluginPackage
from seedbed.evaluation.metrics.table import METRICS, Form


@dataclass(frozen=True, kw_only=True)
class Task:
    """A use case: what it asks for, and the metrics that papers quote for it, the first one first.

    All metrics of a task compare outputs of one form.
    """

    meaning: str
    metrics: tuple[str, ...]

    @property
    def form(self) -> Form:
        """What its outputs and references are."""
        return METRICS[self.metrics[0]].form


TASKS: PluginPackage[Task] = PluginPackage("seedbed.evaluation.tasks", "TASK")
