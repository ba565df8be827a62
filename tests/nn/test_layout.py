"""Flat batches have every token once, in its row, at its position."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.base.errors import ConfigError
from seedbed.nn.layout import Layout, restore, split_groups

examples = settings(max_examples=150, deadline=None, derandomize=True, database=None)
SMALL = st.integers(0, 6)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    """Lengths, pasts and slots of up to eight rows; some idle, many alike."""
    lengths = draw(st.lists(st.one_of(SMALL, st.just(1), st.just(3)), min_size=1, max_size=8))
    past = draw(st.lists(SMALL, min_size=len(lengths), max_size=len(lengths)))
    order = draw(st.one_of(st.just(range(10)), st.permutations(range(10))))
    return lengths, past, list(order)[: len(lengths)]


@examples
@given(batches())
def test_each_token_has_its_slot_and_position(batch: Any) -> None:
    lengths, past, slots = batch
    layout = Layout.of(lengths, past, slots=slots)
    rows = list(zip(lengths, past, slots, strict=True))
    expected = [(slot, start + i) for n, start, slot in rows for i in range(n)]
    assert list(zip(layout.token_slots.tolist(), layout.positions.tolist(), strict=True)) == expected
    assert layout.token_slots.dtype == layout.positions.dtype == torch.int64
    assert sum(layout.lengths) == len(expected)
    assert list(layout.totals) == [start + n for n, start, _ in rows]
    ends = [sum(lengths[: r + 1]) - 1 for r, n in enumerate(lengths) if n]
    assert layout.last_tokens() == ends


@examples
@given(batches(), st.sampled_from([0, 1, 4, 1000]))
def test_groups_cover_every_token_once(batch: Any, slack: int) -> None:
    lengths, past, slots = batch
    layout = Layout.of(lengths, past, slots=slots)
    groups = layout.groups(layout.totals, slots, slack)
    rows = []
    next_token = 0
    for group in groups:
        assert group.first_token == next_token
        next_token += group.num_rows * group.num_queries
        assert len(group.key_lengths) == group.num_rows
        assert group.num_keys == max(group.key_lengths)
        assert group.is_even == (len(set(group.key_lengths)) == 1)
        padding = sum(group.num_keys - n for n in group.key_lengths)
        assert padding <= slack * (group.num_rows - 1)
        for r, num_keys in enumerate(group.key_lengths):
            rows.append((group.num_queries, num_keys, group.first_slot + r))
    assert next_token == sum(layout.lengths)
    active = [(n, total, slot) for n, total, slot in zip(lengths, layout.totals, slots, strict=True) if n]
    assert rows == active


@pytest.mark.parametrize(
    ("lengths", "past", "slack", "num_groups"),
    [
        ([5, 5, 5], [0, 0, 0], 0, 1),
        ([5, 5, 4, 4], [0] * 4, 0, 2),
        ([5, 4, 5], [0] * 3, 1000, 3),  # other numbers of queries never join
        ([1, 1, 1], [3, 7, 3], 0, 3),
        ([1, 1, 1], [3, 7, 3], 4, 1),  # 4 + 4 keys of padding, 2 more calls saved
        ([1, 1, 1], [3, 7, 3], 3, 3),
        ([1, 0, 1], [3, 3, 3], 1000, 2),  # an idle row is between their slots
        ([1] * 8, [9] * 8, 0, 1),
    ],
)
def test_rows_of_equal_lengths_share_a_call(
    lengths: list[int], past: list[int], slack: int, num_groups: int
) -> None:
    layout = Layout.of(lengths, past)
    assert len(layout.groups(layout.totals, layout.slots, slack)) == num_groups


def test_rows_over_one_slot_become_queries_of_one_row() -> None:
    layout = Layout.of([1, 1, 2, 1], [4, 4, 3, 4])
    merged, other = layout.groups([7, 7, 7, 9], [2, 2, 2, 0])
    assert (merged.num_rows, merged.num_queries, merged.first_slot, merged.key_lengths) == (1, 4, 2, (7,))
    assert (other.first_token, other.num_queries, other.first_slot) == (4, 1, 0)


@examples
@given(st.lists(SMALL, min_size=1, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_restore_puts_tokens_where_the_mask_has_them(lengths: list[int], left: list[bool]) -> None:
    width = max(lengths) + 2
    mask = torch.zeros(len(lengths), width, dtype=torch.int64)
    for r, n in enumerate(lengths):
        mask[r, slice(width - n, None) if left[r] else slice(n)] = 1
    ids = torch.arange(1, mask.numel() + 1).view_as(mask)
    assert torch.equal(restore(ids[mask.bool()][:, None], mask)[..., 0], ids * mask)


@examples
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=4))
def test_split_groups_gives_views_of_the_rows(shapes: list[tuple[int, int]]) -> None:
    x = torch.arange(sum(b * t for b, t in shapes) * 6).view(-1, 2, 3)
    start = 0
    for view, (b, t) in zip(split_groups(x, shapes), shapes, strict=True):
        assert view.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        assert torch.equal(view, x[start : start + b * t].view(b, t, 2, 3).transpose(1, 2))
        start += b * t


def test_a_batch_of_no_rows_has_no_tokens() -> None:
    layout = Layout.of([])
    assert sum(layout.lengths) == 0 and layout.groups([], []) == []
    assert layout.positions.dtype == layout.token_slots.dtype == torch.int64


def test_each_row_needs_a_past_and_a_slot() -> None:
    with pytest.raises(ConfigError, match="2 rows, but 1 pasts and 2 slots: pass one of each per row"):
        Layout.of([1, 2], [3])
