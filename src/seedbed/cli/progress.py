"""The progress of a run: a bar with ETA on a terminal, a line every ten seconds in a pipe; and its plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seedbed.base.units import bytes_text, count_text, part_text, seconds_text
from seedbed.cli.console import console, print_facts, say
from seedbed.cli.waiting import Waiting

SECONDS_BETWEEN_LINES = 10.0


class TrainingProgress:
    """Shows loss, tokens per second, percent of the measured matrix-multiply peak and ETA, on stderr."""

    def __init__(self, name: str = "", *, waiting: Waiting | None = None) -> None:
        self._task_name, self._label = name or "training", f"{name}: " if name else ""
        self._waiting = waiting  # for a line where a step or an evaluation takes long
        self._bar: Progress | None = None
        self._num_steps = 0
        self._since: tuple[int, float] | None = None  # a step, and the seconds of the training up to it
        self._printed_at = time.monotonic()
        self.began = time.perf_counter()

    def begin(self, step: int, num_steps: int) -> None:
        """Start the bar; report the step from which a run resumes."""
        self._num_steps, self.began = num_steps, time.perf_counter()
        self._printed_at = time.monotonic()
        self._since = (0, 0.0) if step == 0 else None
        if 0 < step < num_steps:
            say(f"{self._label}resuming after step {step} of {num_steps}")
        self._expect(step)
        terminal = console(stderr=True)
        if terminal.is_terminal:
            bar = [BarColumn(bar_width=12)] if terminal.width >= 80 else []
            texts = ("{task.description}", "{task.completed}/{task.total}", "{task.fields[figures]}")
            name, count, figures = (TextColumn(text) for text in texts)
            columns = (name, *bar, count, figures, TimeRemainingColumn(compact=True))
            self._bar = Progress(*columns, console=terminal, transient=True, refresh_per_second=4)
            self._bar.add_task(self._task_name, total=num_steps, completed=step, figures="")
            self._bar.start()

    def record(self, line: Mapping[str, Any]) -> None:
        """Show a step or an evaluation."""
        if self._since is None or line.get("step") == 0:  # the evaluation before step 1 is no step
            self._since = (line["step"], line["seconds"]) if "seconds" in line else self._since
        if line.get("kind") == "decision":
            self._shorten(line)
        elif line.get("kind") == "evaluation" and self._bar is None:
            bits, accuracy = line.get("bits_per_byte"), line.get("accuracy")
            loss = f"{line['loss']:.3f}" if bits is None else f"{bits:.3f} bits/byte"
            right = "" if accuracy is None else f", accuracy {accuracy:.1%}"
            say(f"{self._label}step {line['step']}/{self._num_steps}  held-out {loss}{right}")
        elif line.get("kind") == "step":
            self._step(line)

    def end(self) -> None:
        """Remove the bar."""
        if self._waiting is not None:
            self._waiting.expect(f"{self._label}after the training: figures, model, report")
        if self._bar is not None:
            with suppress(OSError):  # the terminal was closed
                self._bar.stop()
            self._bar = None

    def _shorten(self, line: Mapping[str, Any]) -> None:
        """Report a decision of the loop to end earlier."""
        text = f"{self._label}slower than planned: ends after step {line['num_steps']} of {self._num_steps} "
        self._num_steps = line["num_steps"]
        if self._bar is None:
            say(f"{text}to keep the budget")
        else:
            self._bar.console.print(f"{text}to keep the budget", style="dim")
            self._bar.update(self._bar.task_ids[0], total=self._num_steps)

    def _expect(self, step: int) -> None:
        if self._waiting is not None and self._bar is None:
            done = f"{self._label}step {step}/{self._num_steps} done"
            self._waiting.expect(f"{done}; next a step, an evaluation or a checkpoint")
        elif self._waiting is not None:
            self._waiting.quiet()

    def _step(self, line: Mapping[str, Any]) -> None:
        self._expect(line["step"])
        figures = f"loss {line['loss']:.3f}  {count_text(line['tokens_per_second'])} tok/s"
        if line.get("peak_fraction"):
            figures += f"  {line['peak_fraction']:.0%} of peak"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=line["step"], figures=figures)
        elif time.monotonic() - self._printed_at >= SECONDS_BETWEEN_LINES:
            self._printed_at = time.monotonic()
            count = f"step {line['step']}/{self._num_steps}"
            say(f"{self._label}{count}  {figures}{self._left(line['step'], line['seconds'])}")

    def _left(self, step: int, seconds: float) -> str:
        """The estimate of what is left, from the time of the steps so far; empty before the first."""
        if self._since is None or step <= self._since[0]:
            return ""
        first, begun = self._since
        left = (seconds - begun) / (step - first) * (self._num_steps - step)
        return f"  about {seconds_text(left)} left"


PART_NAMES = {
    "gradients": "gradients at the peak",
    "activations": "activations at the peak",
    "logits": "logits at the peak",
}


def _on_disk(settings: Any) -> str:
    """What the disk is for, and what lowers it."""
    kept = settings.training.keep_checkpoints
    return "checkpoints" + ("" if kept == 1 else f"; training.keep_checkpoints, now {kept}, lowers it")


def show_plan(plan: Mapping[str, Any], settings: Any, *, stderr: bool = True, has_data: bool = True) -> None:
    """Print the predicted memory by part, time, compute and disk of a run, and the cost of generation."""
    batch_tokens = settings.training.batch_tokens
    total = count_text(plan["num_steps"] * batch_tokens)
    trainable = plan["trainable_parameters"]
    low, high = (seconds_text(seconds) for seconds in plan["seconds_range"])
    facts = {
        "does not fit": plan["obstacle"] or None,
        "parameters": f"{plan['parameters']:,}",
        "trainable": None if trainable == plan["parameters"] else part_text(trainable, plan["parameters"]),
        "steps": f"{plan['num_steps']:,} of {batch_tokens:,} tokens, {total} tokens in total",
        "rows": None
        if has_data
        else f"{settings.training.context_tokens:,} tokens each: no --data was given",
        "time": f"about {seconds_text(plan['seconds'])} ({low} to {high})",
        "compute": f"{plan['flops']:.2e} FLOPs",
        "disk": f"about {bytes_text(plan['disk_bytes'])} ({_on_disk(settings)})",
        "peak memory": f"about {bytes_text(plan['peak_bytes'])}, of which",
        **{
            f"  {PART_NAMES.get(part, part)}": bytes_text(size)
            for part, size in plan["bytes"].items()
            if size >= 1024
        },
    }
    if (use := plan.get("generation")) is not None:
        prompt = f"a prompt of {use['prompt_tokens']} tokens ({seconds_text(use['prompt_seconds'])})"
        memory = f"about {bytes_text(use['peak_bytes'])} with {use['context_tokens']:,} tokens"
        facts["generation"] = f"{count_text(use['tokens_per_second'])} tokens/s after {prompt}"
        facts["generation memory"] = memory
    print_facts("Plan", facts, stderr=stderr)
