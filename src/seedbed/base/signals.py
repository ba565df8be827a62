"""Ctrl-C and SIGTERM end the work where nothing is lost, with the exit code that says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from seedbed.base.errors import StoppedEarly


class StopSignals:
    """While it is entered, SIGINT and SIGTERM raise StoppedEarly where they hit, or where a hold ends.

    What has its own way to stop (the training loop) or must not be cut runs inside `hold()`: there a signal
    only sets `requested`. Every signal after the first changes nothing, so that an impatient second Ctrl-C
    cannot cut the saving that the first one began. Off the main thread, where Python takes no handlers,
    none is installed.
    """

    def __init__(self) -> None:
        self.requested = ""  # the name of the first signal that came
        self._holding = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let nothing inside be cut by a signal; one that came raises StoppedEarly after a normal end."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
        self.check()

    def check(self) -> None:
        """Raise StoppedEarly if a signal came and nothing holds it."""
        if self.requested and not self._holding:
            raise StoppedEarly(
                f"stopped by {self.requested}; all that was done is saved: run the same command again"
            )

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = signal.Signals(number).name
            self.check()
