"""Ctrl-C and SIGTERM stop the work where nothing is lost, with an exit code of their own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from seedbed.base.errors import StoppedEarly


class StopSignals:
    """A context in which SIGINT and SIGTERM raise StoppedEarly at once, or at the end of a `hold()`.

    Code that stops by itself (the training loop) or must not be interrupted runs inside `hold()`: there a
    signal only sets `requested`. Signals after the first are ignored: a second Ctrl-C cannot interrupt the
    saving that the first one started. Outside the main thread, where Python allows no handlers, none is
    installed.
    """

    def __init__(self) -> None:
        self.requested = ""  # the name of the first signal
        self._holding = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Delay signals: one that arrives inside raises StoppedEarly after the block ends normally."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
        self.check()

    def check(self) -> None:
        """Raise StoppedEarly if a signal has arrived and no `hold()` delays it."""
        if self.requested and not self._holding:
            raise StoppedEarly(
                f"stopped by {self.requested}; everything done so far is saved: run the same command again"
            )

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = signal.Signals(number).name
            self.check()
