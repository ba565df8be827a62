"""What a long command is doing: a line as a part of the work begins, and one for every ten seconds of it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from seedbed.base.units import seconds_text
from seedbed.cli.console import say

_LOOK_SECONDS = 0.25


class Waiting:
    """A context in which no silence on stderr is long; `text` is shown only if it takes a while.

    `say` shows a line at once. What it says is repeated with its time until another line or `quiet`.
    """

    def __init__(self, text: str = "", *, first_seconds: float = 2.0, every_seconds: float = 10.0) -> None:
        self._text, self._since = text, time.monotonic()
        self._due_seconds, self._every_seconds = first_seconds, every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Waiting:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def say(self, text: str) -> None:
        """Show a line, and from now on its time."""
        say(text)
        self.expect(text)

    def expect(self, text: str) -> None:
        """Show a line only if what follows takes ten seconds."""
        self._text, self._since, self._due_seconds = text, time.monotonic(), self._every_seconds

    def quiet(self) -> None:
        """Show nothing, until the next line."""
        self._text = ""

    def _watch(self) -> None:
        while not self._ended.wait(min(_LOOK_SECONDS, self._every_seconds)):
            text, seconds = self._text, time.monotonic() - self._since
            if text and seconds >= self._due_seconds:
                self._due_seconds += self._every_seconds
                with suppress(OSError):  # the terminal was closed
                    say(text if seconds < self._every_seconds else f"{text}, {seconds_text(seconds)} so far")
