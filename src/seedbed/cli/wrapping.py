"""Text that comes piece by piece, broken between words for a terminal."""

from __future__ import annotations

import re

from rich.cells import cell_len

TAB = "    "
SPACE = re.compile(r"( +|\n)")


class StreamWrap:
    """Breaks lines at `width` cells; a word is held back until it ends, so that it never moves.

    Empty lines before the first word and after the last are left out.

    What would command the terminal (an escape character in a model's answer) is shown as U+FFFD.
    """

    def __init__(self, width: int) -> None:
        self._width = max(width, 2)
        self._column = self._num_breaks = 0
        self._gap = self._word = ""
        self._is_begun = False

    def push(self, piece: str) -> str:
        """What can be printed now."""
        shown = ""
        for part in SPACE.split("".join(map(_visible, piece))):
            if not part:
                continue
            if part == "\n":
                shown += self._place()
                self._gap = ""
                self._num_breaks += self._is_begun
            elif part[0] == " ":
                shown += self._place()
                self._gap += part
            else:
                self._word += part
                if cell_len(self._word) > self._width:  # no line holds it: break it where it is full
                    shown += self._place()
        return shown

    def flush(self) -> str:
        """What was held back."""
        return self._place()

    def _place(self) -> str:
        """The gap and the word that wait: on this line, on the next, or over several."""
        if not self._word:
            return ""
        breaks, word, gap = "\n" * self._num_breaks, self._word, self._gap
        self._word, self._gap, self._num_breaks, self._is_begun = "", "", 0, True
        if breaks:
            self._column = 0
        return breaks + self._on_lines(gap, word)

    def _on_lines(self, gap: str, word: str) -> str:
        size = cell_len(word)
        if self._column + len(gap) + size <= self._width:
            self._column += len(gap) + size
            return gap + word
        if not self._column and size <= self._width:  # an indent too deep for its word
            self._column = size
            return word
        shown = ""
        if self._column and size <= self._width:
            shown, self._column = "\n", 0
        elif self._column + len(gap) < self._width:
            shown, self._column = gap, self._column + len(gap)
        for character in word:
            cells = cell_len(character)
            if self._column + cells > self._width:
                shown, self._column = shown + "\n", 0
            shown, self._column = shown + character, self._column + cells
        return shown


def _visible(character: str) -> str:
    if character == "\t":
        return TAB
    if character in ("\n", "\u200d", "\u200c") or character.isprintable():
        return character
    return " " if character.isspace() else "\ufffd"
