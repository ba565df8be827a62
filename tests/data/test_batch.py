"""Batches: rows end to end, longest first, targets beside the positions that predict them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seedbed.data.batch import Example, collate, longest_first


def row(first: int, length: int, targets: list[int] | None = None, at: list[int] | None = None) -> Example:
    ids = np.arange(first, first + length)
    if at is None:
        return Example(ids, ids + 1)
    return Example(ids, np.array(targets, np.int64), np.array(at, np.int64))


def test_rows_lie_end_to_end_longest_first() -> None:
    batch = collate([row(0, 2), row(10, 3), row(20, 1), row(30, 3)])
    assert batch.input_ids.tolist() == [10, 11, 12, 30, 31, 32, 0, 1, 20]
    assert batch.targets.tolist() == [11, 12, 13, 31, 32, 33, 1, 2, 21]
    assert batch.layout.lengths == (3, 3, 2, 1)
    assert batch.layout.positions.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0]
    assert batch.target_index is None
    assert batch.num_targets == 9
    assert batch.input_ids.dtype == batch.targets.dtype == torch.int64


def test_targets_of_a_mixture_point_into_the_flat_batch() -> None:
    batch = collate([row(0, 2), row(10, 4, [7, 8], [1, 3]), row(20, 3, [], [])])
    assert batch.target_index is not None
    assert batch.target_index.tolist() == [1, 3, 7, 8]
    assert batch.targets.tolist() == [7, 8, 1, 2]
    assert batch.input_ids[batch.target_index].tolist() == [11, 13, 0, 1]
    assert batch.num_targets == 4


@given(st.lists(st.integers(1, 9), min_size=1))
def test_sorting_is_stable(lengths: list[int]) -> None:
    rows = longest_first([row(n, length) for n, length in enumerate(lengths)])
    order = [(-len(each.input_ids), int(each.input_ids[0])) for each in rows]
    assert order == sorted(order)


@pytest.mark.parametrize("at", [None, [0, 1]])
def test_a_batch_moves_to_a_device(at: list[int] | None) -> None:
    moved = collate([row(0, 2, [5, 6], at)]).to("meta")
    tensors = [moved.input_ids, moved.targets, moved.layout.positions, moved.layout.token_slots]
    tensors += [] if moved.target_index is None else [moved.target_index]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.target_index is None) == (at is None)
