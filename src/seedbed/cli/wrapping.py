"""Streamed text, wrapped between words for a terminal."""

from __future__ import annotations

import re

from rich.cells import cell_len

from seedbed.cli.console import visible

TAB = "    "
SPACE = re.compile(r"([ \n]+)")


class StreamWrap:
    """Wraps lines at `width` cells; a word is printed once it is complete, so that it never moves.

    Empty lines before the first word and after the last are dropped. Control characters, which could be
    commands to the terminal, become U+FFFD.
    """

    def __init__(self, width: int) -> None:
        self._width = max(width, 2)
        self._column = 0
        self._gap = self._word = ""
        self._is_begun = False

    def push(self, text: str) -> str:
        """Add text and return what can be printed now."""
        shown = ""
        for part in SPACE.split(visible(text).replace("\t", TAB)):
            if part.isspace():
                shown += self.flush()
                self._gap += part
            else:
                self._word += part
                if cell_len(self._word) > self._width:  # longer than a line: broken where the line is full
                    shown += self.flush()
        return shown

    def flush(self) -> str:
        """Return the last word, with the space before it: on this line, on the next, or over several."""
        if not self._word:
            return ""
        word, size = self._word, cell_len(self._word)
        breaks, gap = self._gap.count("\n"), self._gap.rpartition("\n")[2]
        shown = "\n" * breaks if self._is_begun else ""
        self._gap, self._word, self._is_begun = "", "", True
        if breaks:
            self._column = 0
        if size <= self._width:
            if self._column + len(gap) + size > self._width:  # on the next line, or here without the indent
                shown, gap, self._column = shown + "\n" * (self._column > 0), "", 0
            self._column += len(gap) + size
            return shown + gap + word
        if self._column + len(gap) < self._width:
            shown, self._column = shown + gap, self._column + len(gap)
        for character in word:
            cells = cell_len(character)
            if self._column + cells > self._width:
                shown, self._column = shown + "\n", 0
            shown, self._column = shown + character, self._column + cells
        return shown
