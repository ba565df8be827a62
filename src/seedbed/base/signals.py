"""Ctrl-C, SIGTERM and a closed terminal stop the work where nothing is lost, with their own exit code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from seedbed.base.errors import StoppedEarly

Item = TypeVar("Item")
SAVED = "each part that was finished is saved"
WORKER = "seedbed-worker"  # the name of threads in which a library works
GRACE_SECONDS = 1.0  # for such a thread to end after a signal
_STOPPED: list[int] = []  # the signals that stopped work


class StopSignals:
    """A context in which SIGINT, SIGTERM and SIGHUP raise StoppedEarly at once, or at the end of a `hold()`.

    Code that stops by itself (the training loop) or must not be interrupted runs inside `hold()`: there a
    signal only sets `requested`. Signals after the first are ignored: a second Ctrl-C cannot interrupt the
    saving that the first one started. Outside the main thread, where Python allows no handlers, none is
    installed; nor for SIGHUP where it is ignored, as under nohup. `saved` says what is kept.
    """

    def __init__(self, saved: str = SAVED) -> None:
        self.saved = saved
        self.requested = ""  # the name of the first signal
        self._holding = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM]
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                numbers.append(signal.SIGHUP)
            self._before = {number: signal.signal(number, self._receive) for number in numbers}
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
            raise StoppedEarly(f"stopped by {self.requested}; {self.saved}: run the same command again")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = signal.Signals(number).name
            _STOPPED.append(number)
            self.check()


def in_worker(call: Callable[[Iterator[Item]], object], items: Iterable[Item]) -> None:
    """Let a library work on items in a thread of its own, while the main thread waits for it or a signal.

    Python runs no handler before a library returns, and training a tokenizer takes minutes. After an
    exception in the main thread the items end with an error, which ends the call if it still takes items.
    """
    ended, left, errors = threading.Event(), threading.Event(), list[BaseException]()

    def guarded() -> Iterator[Item]:
        for item in items:
            if left.is_set():
                raise StoppedEarly("nobody waits for this call any more")
            yield item

    def work() -> None:
        try:
            call(guarded())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    try:
        threading.Thread(target=work, name=WORKER, daemon=True).start()
        ended.wait()
    except BaseException:
        left.set()
        ended.wait(GRACE_SECONDS)
        raise
    if errors:
        raise errors[0]


def has_stopped() -> bool:
    """Whether a signal has stopped work in this process."""
    return bool(_STOPPED)


def library_works() -> bool:
    """Whether a library still works in a thread that nobody waits for: only `os._exit` ends it."""
    return any(thread.name == WORKER for thread in threading.enumerate())
