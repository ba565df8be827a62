"""Decode states: rows of keys and values in preallocated slots. Letters as in layout.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seedbed.base.errors import ConfigError
from seedbed.nn.layout import Group, Layout

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A state to roll back to: valid until its rows are selected or joined."""

    lengths: tuple[int, ...]
    memory: tuple[Tensor, ...] = ()  # of recurrent layers; keys and values are found by their lengths


class KVCache:
    """Keys and values of every layer in preallocated slots: row r has lengths[r] of them in slot slots[r].

    `kv` is (num_layers, num_slots, 2 K, capacity, D), the keys' heads before the values': a token's keys and
    values are written in one call, and are 5 to 25% faster to read than with the heads last but one. Rows
    are indices into slots: moving those of 8 x 4 beams cost 1.3 steps of a 12 x 768 decoder, indices 0.08.
    """

    def __init__(
        self, num_layers: int, num_rows: int, *, num_heads: int, capacity: int, like: Tensor
    ) -> None:
        self.slots, self.lengths = list(range(num_rows)), [0] * num_rows
        # Zeros: a masked value is still multiplied by 0, and 0 x NaN is NaN.
        self.kv = like.new_zeros(num_layers, num_rows, 2 * num_heads, capacity, like.size(-1))

    @property
    def capacity(self) -> int:
        """The maximum number of tokens per row."""
        return self.kv.size(3)

    def window(self, layout: Layout, groups: Sequence[Group]) -> CacheWindow:
        """The part that a pass over the tokens of `layout` writes, and its groups read, in every layer."""
        return CacheWindow(self.kv, layout, groups)

    def select(self, rows: Sequence[int], *, share: bool = False) -> None:
        """Row i becomes what rows[i] was; a row selected again is copied, unless rows may share a slot.

        Of several copies of one row, the one in its place keeps the slot: beams stay neighbours.
        """
        chosen = [(self.slots[r], self.lengths[r]) for r in rows]
        self.slots, self.lengths = [], []
        owners = {slot: i for i, (slot, _) in reversed(list(enumerate(chosen)))}
        owners |= {slot: i for i, (slot, _) in enumerate(chosen) if rows[i] == i}
        kept = set(owners)
        self._grow(len(kept) if share else len(rows), 0)
        for i, (slot, length) in enumerate(chosen):
            self._append(slot if owners[slot] == i or share else self._copy(self, slot, length, kept), length)

    def join(self, other: KVCache) -> None:
        """Append the other's rows to one's own."""
        kept = set(self.slots)
        self._grow(len(kept) + len(set(other.slots)), other.capacity)
        copies: dict[int, int] = {}
        for slot, length in zip(other.slots, other.lengths, strict=True):
            if slot not in copies:
                copies[slot] = self._copy(other, slot, length, kept)
            self._append(copies[slot], length)

    def _append(self, slot: int, length: int) -> None:
        self.slots.append(slot)
        self.lengths.append(length)

    def _copy(self, source: KVCache, slot: int, length: int, kept: set[int]) -> int:
        """Copy the first `length` tokens of a slot of `source` into a free slot -> that slot, now kept."""
        free = next(s for s in range(self.kv.size(1)) if s not in kept)
        kept.add(free)
        self.kv[:, free, :, :length] = source.kv[:, slot, :, :length]
        return free

    def _grow(self, num_slots: int, capacity: int) -> None:
        """Allocate at least so many slots of at least so many tokens."""
        slots, tokens = max(0, num_slots - self.kv.size(1)), max(0, capacity - self.capacity)
        if slots or tokens:
            self.kv = F.pad(self.kv, (0, 0, 0, tokens, 0, 0, 0, slots))


class CacheWindow:
    """The part of a KVCache that one pass reads and writes, as views that are made once for all layers."""

    def __init__(self, kv: Tensor, layout: Layout, groups: Sequence[Group]) -> None:
        self._kv, self._layout, self._groups = kv, layout, groups

    @property
    def is_rectangle(self) -> bool:
        """Whether the rows have equal lengths, pasts of equal lengths, and neighbouring slots."""
        return len(self._groups) == 1 and self._groups[0].is_even

    @cached_property
    def read_views(self) -> list[tuple[KeysValues, ...]]:
        """For each layer and each group: keys and values (B, K, S, D)."""
        views = []
        for group in self._groups:
            kv = self._kv[:, group.slots, :, : group.num_keys]
            k, v = (half.unbind(0) for half in kv.chunk(2, dim=2))
            views.append(zip(k, v, strict=True))
        return list(zip(*views, strict=True))

    @cached_property
    def write_views(self) -> tuple[Tensor, ...]:
        """For each layer: the new keys and values of a rectangle, (B, 2 K, T, D), or else all slots."""
        kv = self._kv
        if self.is_rectangle:
            group = self._groups[0]
            kv = kv[:, group.slots, :, group.num_keys - group.num_queries : group.num_keys]
        return kv.unbind(0)

    def write(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store k, v (N, K, D) at the slots and positions of the pass's tokens."""
        view = self.write_views[layer]
        kv = torch.cat((k, v), dim=1)
        if self.is_rectangle:
            rows, _, tokens, _ = view.shape
            view.copy_(kv.view(rows, tokens, *kv.shape[1:]).transpose(1, 2))
        else:
            index = (self._layout.token_slots, self._layout.positions)
            # Under autocast k and v have another type than the cache.
            view.transpose(1, 2).index_put_(index, kv.to(view.dtype))


@dataclass
class AttentionState:
    """The decode state of a Transformer: caches of its rows, and of an encoder's memory that rows share.

    Row r has lengths[r] tokens; `module.extend(state, ids, state.layout(counts))` appends counts[r] more.
    """

    keys: KVCache
    memory: KVCache | None = None
    # The `LayerSteps` (nn/step.py) for each kind of matmul, built at the first step.
    steps: dict[object, Any] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """Tokens that each row has read."""
        return list(self.keys.lengths)

    def layout(self, counts: Sequence[int]) -> Layout:
        """The layout of counts[r] more tokens for each row."""
        keys = self.keys
        layout = Layout.of(counts, keys.lengths, slots=keys.slots, device=keys.kv.device)
        if max(layout.totals) > keys.capacity:
            raise ConfigError(
                f"a row would have {max(layout.totals)} tokens, but the state was started with capacity="
                f"{keys.capacity}; start it with more"
            )
        return layout

    def advance(self, layout: Layout) -> None:
        """Count the tokens of `layout` as read."""
        self.keys.lengths = list(layout.totals)

    def select(self, rows: Sequence[int]) -> None:
        """Reorder, copy or drop rows: row i becomes what rows[i] was."""
        self.keys.select(rows)
        if self.memory is not None:
            self.memory.select(rows, share=True)

    def join(self, other: DecodeState) -> None:
        """Append the other's rows to one's own."""
        assert isinstance(other, AttentionState)
        if self.memory is None or not self.keys.slots:
            assert other.memory is None or not self.keys.slots
            self.memory = other.memory
        else:
            assert other.memory is not None
            self.memory.join(other.memory)
        self.keys.join(other.keys)

    def snapshot(self) -> Snapshot:
        """The present lengths of the rows, for `rollback`."""
        return Snapshot(tuple(self.keys.lengths))

    def rollback(self, snapshot: Snapshot) -> None:
        """Restore a snapshot; the tokens appended since will be overwritten."""
        assert all(a <= b for a, b in zip(snapshot.lengths, self.keys.lengths, strict=True))
        self.keys.lengths = list(snapshot.lengths)


class RecurrentState:
    """The decode state of recurrent layers: a memory (num_layers, 1 or 2, num_rows, M), lengths as above."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self.lengths = [0] * memory.size(2)

    def layout(self, counts: Sequence[int]) -> Layout:
        """The layout of counts[r] more tokens for each row."""
        return Layout.of(counts, self.lengths, device=self.memory.device)

    def advance(self, layout: Layout, memory: Tensor) -> None:
        """Count the tokens of `layout` as read, and store the memory of the rows that are not idle."""
        if all(layout.lengths):
            self.memory = memory
        else:
            rows = [r for r, n in enumerate(layout.lengths) if n]
            self.memory = self.memory.clone()  # an earlier snapshot keeps its own
            self.memory[:, :, rows] = memory
        self.lengths = list(layout.totals)

    def select(self, rows: Sequence[int]) -> None:
        """Reorder, copy or drop rows: row i becomes what rows[i] was."""
        self.memory = self.memory[:, :, list(rows)]
        self.lengths = [self.lengths[r] for r in rows]

    def join(self, other: DecodeState) -> None:
        """Append the other's rows to one's own."""
        assert isinstance(other, RecurrentState)
        self.memory = torch.cat([self.memory, other.memory], dim=2)
        self.lengths = self.lengths + other.lengths

    def snapshot(self) -> Snapshot:
        """The present lengths and memory, for `rollback`; without a copy, since a step makes a new memory."""
        return Snapshot(tuple(self.lengths), (self.memory,))

    def rollback(self, snapshot: Snapshot) -> None:
        """Restore a snapshot and discard the tokens appended since."""
        self.lengths = list(snapshot.lengths)
        (self.memory,) = snapshot.memory


DecodeState = AttentionState | RecurrentState
