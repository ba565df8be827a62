"""The progress of answering records: expected time first, then a bar on a terminal or lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seedbed.base.units import seconds_text
from seedbed.cli.console import console, say
from seedbed.cli.progress import SECONDS_BETWEEN_LINES
from seedbed.cli.waiting import Waiting


class Answers:
    """A context that shows what it waits for, and with `show` how many records are answered."""

    def __init__(self, text: str) -> None:
        self._waiting = Waiting(text)
        self._bar: Progress | None = None
        self._began = self._printed_at = time.monotonic()
        self._first = 0  # records that an earlier call had answered

    def __enter__(self) -> Answers:
        self._waiting.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            with suppress(OSError):  # the terminal was closed
                self._bar.stop()
        self._waiting.__exit__(*error)

    def show(self, line: Mapping[str, Any]) -> None:
        """Show the expected time, or how far the answers are."""
        if "resumed" in line:
            self._first = line["resumed"]
            say(f"continuing after {self._first:,} records that are answered already")
        elif "begun" in line:
            self._waiting.expect("answering the first records")
        elif "expected_seconds" in line:
            say(f"{line['total']:,} records, about {seconds_text(line['expected_seconds'])}")
            self._waiting.expect("answering the first records")
            self._began = time.monotonic()
        elif "done" in line:
            self._waiting.quiet()
            self._progress(line)

    def _progress(self, line: Mapping[str, Any]) -> None:
        done, total, score = line["done"], line.get("total"), line.get("score")
        said = "" if score is None else f"  {score:.3f} so far"
        terminal = console(stderr=True)
        if terminal.is_terminal:
            if self._bar is None:
                bar = [BarColumn(bar_width=12)] if terminal.width >= 80 and total else []
                texts = (
                    "{task.completed:,}/{task.total:,}" if total else "{task.completed:,}",
                    "{task.fields[said]}",
                )
                columns = (TextColumn("records"), *bar, *map(TextColumn, texts))
                left = (TimeRemainingColumn(compact=True),) if total else ()
                self._bar = Progress(*columns, *left, console=terminal, transient=True, refresh_per_second=4)
                self._bar.add_task("records", total=total, completed=done, said=said)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=done, said=said)
        elif time.monotonic() - self._printed_at >= SECONDS_BETWEEN_LINES:
            self._printed_at = time.monotonic()
            count = f"{done:,}/{total:,} records" if total else f"{done:,} records"
            rest = ""
            if total and self._first < done < total:
                seconds = (self._printed_at - self._began) / (done - self._first) * (total - done)
                rest = f"  about {seconds_text(seconds)} left"
            say(f"{count}{said}{rest}")
