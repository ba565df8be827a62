"""A training that something happens to at a moment: Ctrl-C, an error, a kill."""

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any


def interrupt() -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def crash() -> None:
    """An error that nothing in the loop expects."""
    raise RuntimeError("crash")


def kill() -> None:
    """The end of the work in the middle, as a kill has it."""
    raise KeyboardInterrupt


class At:
    """Does something once, when a line of a kind and step is recorded."""

    began = 0.0  # as the display of the command line has it

    def __init__(self, kind: str, step: int, act: Callable[[], object]) -> None:
        self.kind, self.step, self.act = kind, step, act

    def begin(self, step: int, num_steps: int) -> None:
        """Nothing."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Act at the moment."""
        if (line["kind"], line["step"]) == (self.kind, self.step):
            self.act()

    def end(self) -> None:
        """Nothing."""
