"""Where tensors would be in the process's heap: blocks that are allocated and never touched."""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right
from functools import cache

ALIGNMENT, PAGE = 64, 4096  # of torch's CPU tensors, of memory


class UntouchedHeap:
    """Allocates from glibc's heap what tensors would, so that it is split between them as in a training.

    A block that is not written to takes no memory. `touched_bytes` are the pages that the tensors would have
    written to: what a process takes, since the heap keeps what is freed (`base/runtime.py`). Large blocks
    between small ones that live longer are what it loses; a heap as ideal as the tensors' peak loses nothing.
    """

    def __init__(self, *, at_most: int) -> None:
        self.at_most, self.touched_bytes = at_most, 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._events: list[tuple[int, int]] = []  # address, and the size of an allocated block or 0

    @property
    def is_exceeded(self) -> bool:
        """Whether the pages are more than `at_most`, or the heap had no block."""
        return self.touched_bytes > self.at_most

    def allocate(self, num_bytes: int) -> int:
        """Return the address of a block; 0 if the heap has none or the pages exceed `at_most`."""
        address = ctypes.c_void_p()
        if not num_bytes or self.is_exceeded:
            return 0
        if _glibc().posix_memalign(ctypes.byref(address), ALIGNMENT, num_bytes):
            self.touched_bytes = self.at_most + 1
            return 0
        found = address.value or 0
        self._events.append((found, num_bytes))
        self._touch(found // PAGE * PAGE, -(-(found + num_bytes) // PAGE) * PAGE)
        return found

    def free(self, address: int) -> None:
        """Free a block."""
        self._events.append((address, 0))
        _glibc().free(address)

    def begin(self) -> None:
        """Forget what has been done, for `repeat`."""
        self._events.clear()

    def repeat(self) -> None:
        """Allocate and free once more as since `begin`, as a second step does in the heap that it finds."""
        blocks: dict[int, int] = {}
        for address, num_bytes in [*self._events]:
            if num_bytes:
                blocks[address] = self.allocate(num_bytes)
            elif block := blocks.pop(address, 0):
                self.free(block)
        for block in blocks.values():
            self.free(block)

    def _touch(self, start: int, end: int) -> None:
        """Add the pages to the ranges that have been touched."""
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        joined = slice(first, last)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self.touched_bytes += end - start - sum(self._ends[joined]) + sum(self._starts[joined])
        self._starts[joined], self._ends[joined] = [start], [end]


@cache
def _glibc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    library.posix_memalign.argtypes = (ctypes.POINTER(pointer), size, size)
    library.free.argtypes = (pointer,)
    return library
