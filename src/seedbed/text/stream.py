"""Token ids to text as they arrive, never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

WINDOW = 8  # tokens of a text before, of which a decoder needs the last


class ByteStream:
    """A stream over a vocabulary whose tokens are bytes: an incremental UTF-8 decoder."""

    def __init__(self, token_bytes: Callable[[int], bytes | None]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def begin_after(self, ids: Sequence[int]) -> None:
        """Continue a text of these tokens: bytes have no beginning of their own."""

    def push(self, token_id: int) -> str:
        """The characters that this token completes; special tokens have none."""
        return self._decoder.decode(self._token_bytes(token_id) or b"")

    def flush(self) -> str:
        """U+FFFD where a character was left incomplete, else nothing."""
        return self._decoder.decode(b"", final=True)


class WindowStream:
    """A stream over any vocabulary: decodes the last few tokens with and without the new one.

    The tokens before the window matter, because a decoder may treat a beginning specially (a leading space).
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._num_emitted = 0  # tokens of the window whose text was returned

    def begin_after(self, ids: Sequence[int]) -> None:
        """Continue a text that ends in these tokens, so that a space between the two texts is kept."""
        self._window = list(ids[-WINDOW:])
        if self._decode(self._window).endswith("\ufffd"):
            self._window = []
        self._num_emitted = len(self._window)

    def push(self, token_id: int) -> str:
        """The text that this token adds, once it ends in a whole character."""
        self._window.append(token_id)
        text = self._decode(self._window)
        return "" if text.endswith("\ufffd") else self._advance(text)

    def flush(self) -> str:
        """The text that was held back."""
        return self._advance(self._decode(self._window))

    def _advance(self, text: str) -> str:
        added = text[len(self._decode(self._window[: self._num_emitted])) :]
        if added:
            self._window = self._window[self._num_emitted :]
            self._num_emitted = len(self._window)
        return added


TextStream = ByteStream | WindowStream  # pushed and flushed texts, joined, are the text of all ids
