"""Decode states against plain lists: after any operations each row has exactly its own tokens."""

from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seedbed.base.errors import ConfigError
from seedbed.nn.layout import Layout
from seedbed.nn.state import AttentionState, KVCache, RecurrentState

CAPACITY = 40
NUM_LAYERS, NUM_HEADS, HEAD_DIM = 2, 2, 3
examples = settings(max_examples=120, deadline=None, derandomize=True, database=None)

append = st.tuples(st.just("append"), st.lists(st.integers(0, 3), min_size=6, max_size=6))
select = st.tuples(st.just("select"), st.lists(st.integers(0, 5), min_size=1, max_size=6))
join = st.tuples(st.just("join"), st.lists(st.integers(0, 4), min_size=1, max_size=2))
draft = st.tuples(st.just("draft"), st.lists(st.integers(0, 2), min_size=6, max_size=6))
histories = st.lists(st.one_of(append, select, join, draft), min_size=1, max_size=8)


def key(token: int, layer: int) -> Tensor:
    """The key of a token in a layer: (K, D), every number different."""
    return torch.arange(NUM_HEADS * HEAD_DIM).view(NUM_HEADS, HEAD_DIM) + 10.0 * token + 0.25 * layer


def start(num_rows: int) -> AttentionState:
    keys = KVCache(
        NUM_LAYERS, num_rows, num_heads=NUM_HEADS, capacity=CAPACITY, like=torch.empty(0, HEAD_DIM)
    )
    return AttentionState(keys)


def write(state: AttentionState, rows: list[list[int]]) -> None:
    """Append rows[r] to row r, as a network does."""
    layout = state.layout([len(row) for row in rows])
    tokens = [token for row in rows for token in row]
    window = state.keys.window(layout, layout.groups(layout.totals, layout.slots))
    for layer in range(NUM_LAYERS):
        k = torch.stack([key(token, layer) for token in tokens])
        window.write(layer, k, -k)
    state.advance(layout)


def check(state: AttentionState, rows: list[list[int]]) -> None:
    assert state.lengths == [len(row) for row in rows]
    layout = state.layout([1] * len(rows))
    past = [len(row) for row in rows]
    groups = layout.groups(past, layout.slots, 1000)
    window = state.keys.window(layout, groups)
    for i, group in enumerate(groups):
        for layer in range(NUM_LAYERS):
            k, v = window.read_views[layer][i]  # (B, K, S, D)
            assert torch.equal(v, -k)
            for r in range(group.num_rows):
                row = rows[group.first_token + r]
                for position, token in enumerate(row):
                    assert torch.equal(k[r, :, position], key(token, layer))


def replay(history: Any, state: Any, write: Any, check: Any, start: Any) -> None:
    tokens = count(1)

    def fresh(counts: list[int]) -> list[list[int]]:
        return [[next(tokens) for _ in range(n)] for n in counts]

    rows: list[list[int]] = [[], []]
    for operation, numbers in history:
        if operation == "append" and any(numbers[: len(rows)]):
            added = fresh(numbers[: len(rows)])
            write(state, added)
            rows = [row + more for row, more in zip(rows, added, strict=True)]
        elif operation == "select":
            chosen = [n % len(rows) for n in numbers]
            state.select(chosen)
            rows = [rows[n] for n in chosen]
        elif operation == "join" and len(rows) + len(numbers) <= 6:
            other, added = start(len(numbers)), fresh(numbers)
            if any(numbers):
                write(other, added)
            state.join(other)
            rows = rows + added
        elif operation == "draft" and any(numbers[: len(rows)]):
            snapshot = state.snapshot()
            write(state, fresh(numbers[: len(rows)]))
            state.rollback(snapshot)
        check(state, rows)


@examples
@given(histories)
def test_cached_rows_have_the_keys_of_their_tokens(history: Any) -> None:
    replay(history, start(2), write, check, start)


def start_recurrent(num_rows: int) -> RecurrentState:
    return RecurrentState(torch.zeros(NUM_LAYERS, 2, num_rows, 1))


def read_on(state: RecurrentState, rows: list[list[int]]) -> None:
    """A memory that depends on the order of the tokens."""
    layout = state.layout([len(row) for row in rows])
    memory = state.memory.clone()
    for r, row in enumerate(rows):
        for token in row:
            memory[:, :, r] = memory[:, :, r] * 3 % 1009 + token
    state.advance(layout, memory[:, :, [r for r, row in enumerate(rows) if row]])


def check_recurrent(state: RecurrentState, rows: list[list[int]]) -> None:
    assert state.lengths == [len(row) for row in rows]
    again = start_recurrent(len(rows))
    read_on(again, rows)
    assert torch.equal(state.memory, again.memory)


@examples
@given(histories)
def test_recurrent_rows_have_the_memory_of_their_tokens(history: Any) -> None:
    replay(history, start_recurrent(2), read_on, check_recurrent, start_recurrent)


def test_moving_rows_moves_no_numbers() -> None:
    """Only a copy touches memory: reordering and dropping are lists of slots."""
    state = start(3)
    write(state, [[1, 2], [3], [4, 5, 6]])
    before = state.keys.kv.clone()
    tensor = state.keys.kv
    state.select([2, 0])
    assert state.keys.kv is tensor and torch.equal(tensor, before)
    assert state.keys.slots == [2, 0]
    state.select([1, 0, 1])
    assert state.keys.kv is tensor  # the copy is in the slot that had become free
    assert sorted(state.keys.slots) == [0, 1, 2]


def test_a_state_has_a_capacity() -> None:
    state = start(2)
    with pytest.raises(ConfigError, match=f"41 tokens, but the state was started with capacity={CAPACITY}"):
        state.layout([1, CAPACITY + 1])
    large = KVCache(1, 1, num_heads=1, capacity=90, like=torch.empty(0, 2))
    small = KVCache(1, 1, num_heads=1, capacity=5, like=torch.empty(0, 2))
    small.join(large)
    assert small.capacity == 90 and small.kv.size(1) == 2


def test_memory_begins_as_zeros() -> None:
    """A masked value is still multiplied by 0, and 0 x NaN is NaN."""
    state = start(2)
    state.join(start(3))
    assert not state.keys.kv.any()


def test_a_slice_writes_what_an_index_writes() -> None:
    """One row is written through a view."""
    one, two = start(1), start(2)
    write(one, [[1, 2, 3]])
    write(two, [[1, 2, 3], [4]])
    assert torch.equal(one.keys.kv[:, 0], two.keys.kv[:, 0])
    assert Layout.of([1]).slots == (0,)
