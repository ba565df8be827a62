"""The text of an answer as it grows: whole characters, nothing of a stop text."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.text.stream import TextStream


class TextOutput:
    """Turns token ids into text that is final: what may be the beginning of a stop text is held back.

    The text is cut before the first stop text that is complete, as if characters came one by one: where they
    lie in tokens changes nothing.
    """

    def __init__(self, stream: TextStream, stop: Sequence[str] = ()) -> None:
        self._stream, self._stop = stream, tuple(stop)
        self._held = ""
        self._num_taken = 0
        self.text = ""
        self.is_stopped = False

    def push(self, token_id: int) -> None:
        """Add a token."""
        self._add(self._stream.push(token_id))

    def finish(self) -> None:
        """Add what was held back: no token follows."""
        self._add(self._stream.flush())
        self.text += self._held
        self._held = ""

    def take(self) -> str:
        """The text that became final since the last call."""
        piece = self.text[self._num_taken :]
        self._num_taken = len(self.text)
        return piece

    def _add(self, piece: str) -> None:
        if self.is_stopped or not piece:
            return
        held = self._held + piece
        found = [(at + len(stop), at) for stop in self._stop if (at := held.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            self.text += held[: min(found)[1]]
            self._held = ""
            return
        num_held = next((n for n in range(self._longest(len(held)), 0, -1) if self._begins(held[-n:])), 0)
        self.text += held[: len(held) - num_held]
        self._held = held[len(held) - num_held :]

    def _longest(self, num_characters: int) -> int:
        """Characters that may be held back: one less than the longest stop text has."""
        return min(num_characters, max(map(len, self._stop), default=1) - 1)

    def _begins(self, tail: str) -> bool:
        return any(stop.startswith(tail) for stop in self._stop)
