"""What passes while a run trains: a bar with ETA on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from seedbed.base.units import bytes_text, count_text, seconds_text
from seedbed.cli.console import console, say

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
            bar = [BarColumn(bar_width=12)] if terminal.width >= 80 else []
            texts = ("{task.description}", "{task.completed}/{task.total}", "{task.fields[figures]}")
            name, count, figures = (TextColumn(text) for text in texts)
            columns = (name, *bar, count, figures, TimeRemainingColumn(compact=True))
            self._bar = Progress(*columns, console=terminal, transient=True, refresh_per_second=4)
            self._task = self._bar.add_task(
                self.name or "training", total=num_steps, completed=step, figures=""
            )
            self._bar.start()

    def record(self, line: Mapping[str, Any]) -> None:
        """Show a step or an evaluation."""
        if line.get("kind") == "evaluation":
            bits = line.get("bits_per_byte")
            unit = f"{line['loss']:.3f}" if bits is None else f"{bits:.3f} bits/byte"
            right = line.get("accuracy")
            self._evaluation = f"held-out {unit}" + ("" if right is None else f", {right:.1%} right")
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


def show_plan(plan: Mapping[str, Any], settings: Any, *, stderr: bool = True) -> None:
    """Print what a run will cost: parameters, memory by part, time, disk; generation where it is planned."""
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    training = settings.training
    tokens = plan["num_steps"] * training.batch_tokens
    table.add_row("parameters", f"{plan['parameters']:,}")
    if plan["trainable_parameters"] != plan["parameters"]:
        table.add_row("trainable", f"{plan['trainable_parameters']:,}")
    table.add_row(
        "steps", f"{plan['num_steps']:,} of {training.batch_tokens:,} tokens, {count_text(tokens)} in all"
    )
    for part, size in plan["bytes"].items():
        table.add_row(part, bytes_text(size))
    table.add_row("peak memory", f"about {bytes_text(plan['peak_bytes'])}")
    table.add_row("time", f"about {seconds_text(plan['seconds'])}")
    table.add_row("compute", f"{plan['flops']:.2e} FLOPs")
    table.add_row("disk", f"about {bytes_text(plan['disk_bytes'])}")
    if (use := plan.get("generation")) is not None:
        rate, prompt = count_text(use["tokens_per_second"]), seconds_text(use["prompt_seconds"])
        table.add_row(
            "generation", f"{rate} tokens/s, after {prompt} for a prompt of {use['prompt_tokens']} tokens"
        )
        memory = f"about {bytes_text(use['peak_bytes'])} with {use['context_tokens']:,} tokens"
        table.add_row("generation memory", memory)
    console(stderr=stderr).print(table)
