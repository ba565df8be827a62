"""What passes while a run trains: a bar with ETA on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from seedbed.cli.console import console, say
from seedbed.report.units import count_text, seconds_text

SECONDS_BETWEEN_LINES = 10.0


class TrainingProgress:
    """Shows loss, tokens per second, percent of the measured matrix-multiply peak and ETA, on stderr."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._evaluation = ""
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._num_steps = 0
        self._said = time.monotonic()

    def begin(self, step: int, num_steps: int) -> None:
        """Start the bar, or say in a pipe what begins."""
        self._num_steps = num_steps
        self._said = time.monotonic()
        if step:
            say(f"{self._label()}goes on after step {step} of {num_steps}")
        terminal = console(stderr=True)
        if terminal.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=12),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(compact=True),
            )
            self._bar = Progress(*columns, console=terminal, transient=True)
            self._task = self._bar.add_task(
                self.name or "training", total=num_steps, completed=step, figures=""
            )
            self._bar.start()

    def record(self, line: Mapping[str, Any]) -> None:
        """Show a step or an evaluation."""
        if line.get("kind") == "evaluation":
            bits = line.get("bits_per_byte")
            unit = f"{line['loss']:.3f}" if bits is None else f"{bits:.3f} bits/byte"
            self._evaluation = f"held-out {unit}"
            if self._bar is None:
                say(f"{self._label()}step {line['step']}/{self._num_steps}  {self._evaluation}")
        elif line.get("kind") == "step":
            self._step(line)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _step(self, line: Mapping[str, Any]) -> None:
        figures = f"loss {line['loss']:.3f}  {count_text(line['tokens_per_second'])} tok/s"
        if line.get("peak_fraction"):
            figures += f"  {line['peak_fraction']:.0%} of peak"
        if self._bar is not None:
            self._bar.update(self._task, completed=line["step"], figures=figures)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            left = line["seconds"] / line["step"] * (self._num_steps - line["step"])
            count = f"step {line['step']}/{self._num_steps}"
            say(f"{self._label()}{count}  {figures}  about {seconds_text(left)} left")

    def _label(self) -> str:
        return f"{self.name}: " if self.name else ""
