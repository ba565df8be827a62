"""Blocks of the heap that are never touched take the addresses that tensors would have."""

import gc
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from seedbed.base.hardware import ResidentPeak
from seedbed.base.runtime import keep_freed_memory
from seedbed.select.heap import UntouchedHeap
from seedbed.select.ledger import StorageLedger

MIB = 2**20


def split_heap(allocate: Callable[[int], object]) -> list[object]:
    """Free 60 blocks between small ones that stay, then allocate 10 that fit in none of the holes."""
    kept: list[object] = []
    freed = []
    for _ in range(60):
        freed.append(allocate(2 * MIB))
        kept.append(allocate(MIB // 2))
    freed.clear()
    gc.collect()
    return [*kept, *(allocate(5 * MIB) for _ in range(10))]


@pytest.mark.parametrize("name", ["compare_pages", "free_blocks"])
def test_blocks_are_untouched_and_where_tensors_would_be(name: str) -> None:
    """In a process of its own: the heap of a long one has holes."""
    code = f"from tests.select.test_heap import {name}; {name}()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def compare_pages() -> None:
    """The pages are those that tensors touch."""
    keep_freed_memory()
    split_heap(lambda size: torch.ones(size // 4))  # what torch loads
    heap = UntouchedHeap(at_most=2**40)
    meta = torch.device("meta")
    with StorageLedger("any", heap) as ledger:
        split_heap(lambda size: torch.ones(size // 4, device=meta))
        assert ledger.peak_bytes == pytest.approx(150 * MIB, rel=0.01)
    resident = ResidentPeak()
    assert resident.is_exact
    tensors = split_heap(lambda size: torch.ones(size // 4))
    assert len(tensors) == 70
    # 150 MiB of tensors, and 50 more in holes.
    assert heap.touched_bytes == pytest.approx(resident.peak(), rel=0.05)
    assert heap.touched_bytes == pytest.approx(200 * MIB, rel=0.05)


def free_blocks() -> None:
    """Blocks take no memory, and freed ones are used again."""
    resident, heap = ResidentPeak(), UntouchedHeap(at_most=2**40)
    first = [heap.allocate(64 * MIB) for _ in range(8)]
    assert all(address % 64 == 0 for address in first)
    assert heap.touched_bytes == pytest.approx(512 * MIB, rel=0.01)
    assert resident.peak() < 16 * MIB
    for address in first:
        heap.free(address)
    heap.free(heap.allocate(256 * MIB))
    assert heap.touched_bytes == pytest.approx(512 * MIB, rel=0.01)


def test_beyond_the_limit_nothing_is_allocated() -> None:
    heap = UntouchedHeap(at_most=MIB)
    assert heap.allocate(0) == 0
    block = heap.allocate(2 * MIB)
    assert block
    assert heap.allocate(16) == 0
    assert heap.is_exceeded
    heap.free(block)
    assert UntouchedHeap(at_most=2**62).allocate(2**60) == 0
