"""Which part of a corpus is held out: a share of its bytes, assigned by the hash of the content alone.

A long text is cut into stretches, small beside the share. Those with the smallest hashes are held out until
their bytes are nearest to it; so equal stretches are on one side, whatever their files, their order and their
white space, and so are records with one input and several answers.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedbed.data.corpora import Document

STRETCHES = 20  # of the held-out part, at least, unless they had fewer characters than `LEAST`
LEAST, MOST = 1 << 10, 1 << 16  # characters of a stretch
SHORTEST = 16  # of a text so short that fewer than two stretches would be of `LEAST`
# Where a text is cut: after blank lines, else after a line, else before white space.
BREAKS = tuple(map(re.compile, (r"(?:\r?\n|\r)(?:[ \t]*(?:\r?\n|\r))+", r"\r?\n|\r", r"(?<=\S)(?=\s)")))
CONTEXT = 32  # characters before a break that decide among several


@dataclass(frozen=True, kw_only=True)
class Split:
    """A stretch is held out if its hash is at most `most_hash`, unless it is one of `kept`."""

    most_hash: int = -1
    kept: frozenset[int] = frozenset()
    stretch_characters: int | None = None  # of a text that is cut; None: none is
    key: Callable[[Document], str] = attrgetter("text")  # what decides: the input of a record

    def holds_out(self, hashed: int) -> bool:
        """Whether the content with this hash is for validation."""
        return hashed <= self.most_hash and hashed not in self.kept

    def parts(self, document: Document) -> Iterator[tuple[Document, bool]]:
        """The document, or its parts in order, each with whether it is held out.

        A part is as many stretches as are on one side; only the last one `ends` the document.
        """
        text, start, end, held = document.text, 0, 0, False
        for cut, hashed in stretches(document, self.stretch_characters, self.key):
            held_next = self.holds_out(hashed)
            if held_next != held and end > start:
                yield replace(document, text=text[start:end], ends=False), held
                start = end
            end, held = cut, held_next
        yield (replace(document, text=text[start:]) if start else document), held


def content_hash(text: str) -> int:
    """64 bits of the hash of a text; its white space does not count."""
    return int.from_bytes(hashlib.sha256(" ".join(text.split()).encode()).digest()[:8])


def stretches(
    document: Document, size: int | None, key: Callable[[Document], str] = attrgetter("text")
) -> Iterator[tuple[int, int]]:
    """The stretches of a document, each with its end and the hash of its content."""
    text = document.text
    if size is None or len(text) <= size:
        yield len(text), content_hash(key(document))
        return
    start = 0
    while start < len(text):
        end = _cut(text, start, size)
        yield end, content_hash(text[start:end])
        start = end


def _cut(text: str, start: int, size: int) -> int:
    """The end of a stretch, in the second half of its `size` characters.

    Among several breaks the text before each decides, so two texts with one passage are cut alike in it.
    """
    limit = start + size
    if limit >= len(text):
        return len(text)
    limit -= text[limit - 1 : limit + 1] == "\r\n"
    for pattern in BREAKS:
        ends = [found.end() for found in pattern.finditer(text, start + size // 2, limit)]
        if ends:
            return min(ends, key=lambda end: zlib.crc32(text[max(start, end - CONTEXT) : end].encode()))
    return limit


def stretch_characters(fraction: float, num_characters: int) -> int:
    """The size of a stretch for a share of a corpus: a power of two."""
    size = int(fraction * num_characters / STRETCHES)
    return min(max(1 << max(0, size.bit_length() - 1), LEAST), MOST)


class _Measured(NamedTuple):
    """The hash and the number of bytes of each stretch; characters of all documents and of the longest."""

    hashes: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    num_characters: int
    longest: int


def find_split(
    read: Callable[[], Iterable[Document]],
    fraction: float,
    *,
    cuts: bool,
    last: Iterable[int] = (),
    key: Callable[[Document], str] = attrgetter("text"),
) -> Split | None:
    """The split that holds out `fraction` of the bytes of the documents that `read` gives, each time anew.

    Documents are cut only with `cuts`; a whole one is assigned by the hash of its `key`. `last` are hashes of
    content that stays for training. None if nothing may be held out, or nothing is left for training.
    """
    whole, kept = _measure(read(), None, key), frozenset(last)
    size = stretch_characters(fraction, whole.num_characters)
    if not cuts or (whole.longest <= size and len(whole.hashes) > 1):
        found = _nearest(whole, fraction, kept, None)
        return found and replace(found, key=key)
    while (found := _nearest(_measure(read(), size, key), fraction, kept, size)) is None and size > SHORTEST:
        size //= 2
    return found and replace(found, key=key)


def _measure(documents: Iterable[Document], size: int | None, key: Callable[[Document], str]) -> _Measured:
    """Measure the stretches of some documents."""
    hashes, sizes = array("Q"), array("Q")
    num_characters = longest = 0
    for document in documents:
        start, answer = 0, len((document.answer or "").encode())
        for end, hashed in stretches(document, size, key):
            text = document.text[start:end]
            hashes.append(hashed)
            sizes.append(answer + (len(text) if text.isascii() else len(text.encode())))
            start = end
        num_characters, longest = num_characters + start, max(longest, start)
    return _Measured(
        np.frombuffer(hashes, np.uint64), np.frombuffer(sizes, np.uint64), num_characters, longest
    )


def _nearest(measured: _Measured, fraction: float, kept: frozenset[int], size: int | None) -> Split | None:
    """The split whose held-out bytes are nearest to the share, with at least one stretch on each side."""
    found, inverse, counts = np.unique(measured.hashes, return_inverse=True, return_counts=True)
    weights = np.bincount(inverse, measured.sizes, minlength=len(found))  # in the order of the hashes
    total = float(weights.sum())
    share = fraction * total
    # A passage that is repeated so often that it would be much of the share stays for training.
    free = ~np.isin(found, np.fromiter(kept, np.uint64, len(kept)))
    light = free & ~((counts > 1) & (weights > share / 10))
    free = light if weights[light].sum() >= 2 * share else free
    held = np.cumsum(np.where(free, weights, 0.0))
    allowed = (held > 0) & (held < total)
    if not allowed.any():
        return None
    last = int(np.argmin(np.where(allowed, abs(held - share), np.inf)))
    stay = frozenset(found[: last + 1][~free[: last + 1]].tolist())
    return Split(most_hash=int(found[last]), kept=stay, stretch_characters=size)
