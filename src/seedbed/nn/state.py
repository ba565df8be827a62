"""What decoding remembers: rows of keys and values in preallocated slots. Letters as in layout.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from seedbed.base.errors import ConfigError
from seedbed.nn.layout import Group, Layout


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Where a state was: valid until its rows are selected or joined."""

    lengths: tuple[int, ...]
    memory: tuple[Tensor, ...] = ()  # what cannot be found again by its length


class DecodeState(Protocol):
    """The rows of a decoding, the same for attention and recurrence.

    Row r has read lengths[r] tokens. `module.extend(state, ids, state.layout(counts))` appends counts[r]
    more to it.
    """

    @property
    def lengths(self) -> list[int]:
        """Tokens that each row has read."""

    def layout(self, counts: Sequence[int]) -> Layout:
        """Where counts[r] more tokens of each row will lie."""

    def select(self, rows: Sequence[int]) -> None:
        """Reorder, copy, drop: row i becomes what rows[i] was."""

    def join(self, other: DecodeState) -> None:
        """Take the other's rows in, after one's own."""

    def snapshot(self) -> Snapshot:
        """Where the rows are now, to go back to."""

    def rollback(self, snapshot: Snapshot) -> None:
        """Go back: what was appended since is dead, and will be written over."""


class Slots(ABC):
    """Rows as indices into slots of tensors (num_slots on axis `axis`), so that reordering moves no number.

    Moving the rows of 8 x 4 beams cost 1.3 steps of a 12 x 768 decoder, indices 0.08 (2026-11-24).
    """

    def __init__(self, num_rows: int) -> None:
        self.slots = list(range(num_rows))
        self.lengths = [0] * num_rows

    @property
    @abstractmethod
    def num_slots(self) -> int:
        """Slots that the tensors have room for."""

    @abstractmethod
    def copy_slot(self, to: int, source: Slots, slot: int, length: int) -> None:
        """Copy what a slot of `source` holds of `length` tokens into the slot `to`."""

    @abstractmethod
    def grow(self, num_slots: int, capacity: int) -> None:
        """Make room for at least so many slots of at least so many tokens."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """Tokens a row may have."""

    def select(self, rows: Sequence[int], *, share: bool = False) -> None:
        """Row i becomes what rows[i] was; a row chosen again is copied, unless rows may share a slot."""
        chosen = [(self.slots[r], self.lengths[r]) for r in rows]
        self.slots, self.lengths = [], []
        kept = {slot for slot, _ in chosen}
        self.grow(len(kept) if share else len(rows), 0)
        for slot, length in chosen:
            if slot in self.slots and not share:
                self._take(self, slot, length, kept)
            else:
                self._place(slot, length)

    def join(self, other: Slots) -> None:
        """Take the other's rows in, after one's own."""
        kept = set(self.slots)
        self.grow(len(kept) + len(set(other.slots)), other.capacity)
        moved: dict[int, int] = {}
        for slot, length in zip(other.slots, other.lengths, strict=True):
            if slot in moved:
                self._place(moved[slot], length)
            else:
                moved[slot] = self._take(other, slot, length, kept)

    def _place(self, slot: int, length: int) -> None:
        self.slots.append(slot)
        self.lengths.append(length)

    def _take(self, source: Slots, slot: int, length: int, kept: set[int]) -> int:
        free = next(s for s in range(self.num_slots) if s not in kept)
        self.copy_slot(free, source, slot, length)
        kept.add(free)
        self._place(free, length)
        return free


class KeyRows(Slots):
    """Keys and values of every layer: row r has lengths[r] of them in slot slots[r].

    k and v are (num_layers, num_slots, K, capacity, D): 5 to 25% faster to read than with the heads last
    but one. Another storage offers the same methods.
    """

    def __init__(
        self, num_layers: int, num_rows: int, *, num_heads: int, capacity: int, like: Tensor
    ) -> None:
        # Zeros: a masked value is still multiplied by 0, and 0 x NaN is NaN.
        super().__init__(num_rows)
        self.k = like.new_zeros(num_layers, num_rows, num_heads, capacity, like.size(-1))
        self.v = torch.zeros_like(self.k)
        self._by_token = self._views()

    def _views(self) -> list[tuple[Tensor, Tensor]]:
        """Each layer as (num_slots, capacity, K, D), made once: a view costs 0.6 microseconds."""
        return [(k.transpose(1, 2), v.transpose(1, 2)) for k, v in zip(self.k, self.v, strict=True)]

    @property
    def num_slots(self) -> int:
        """Slots that the tensors have room for."""
        return self.k.size(1)

    @property
    def capacity(self) -> int:
        """Tokens a row may have."""
        return self.k.size(3)

    def write(self, layer: int, k: Tensor, v: Tensor, layout: Layout) -> None:
        """Put k, v (N, K, D) at the slots and positions of the layout's tokens."""
        keys, values = self._by_token[layer]
        if len(layout.lengths) == 1:  # a slice costs 0.85 of an indexed write (2026-11-24)
            slot, start, end = layout.slots[0], layout.past[0], layout.totals[0]
            keys[slot, start:end] = k
            values[slot, start:end] = v
        else:
            at = (layout.token_slots, layout.positions)
            keys.index_put_(at, k.to(keys.dtype))  # autocast makes another type than the weights'
            values.index_put_(at, v.to(values.dtype))

    def read(self, layer: int, group: Group) -> tuple[Tensor, Tensor]:
        """Keys and values of a group, (B, K, S, D) each, without a copy."""
        rows, keys = slice(group.first_slot, group.first_slot + group.num_rows), slice(group.num_keys)
        return self.k[layer, rows, :, keys], self.v[layer, rows, :, keys]

    def copy_slot(self, to: int, source: Slots, slot: int, length: int) -> None:
        """Copy the first `length` keys and values of a slot of `source` into the slot `to`."""
        assert isinstance(source, KeyRows)
        for mine, theirs in ((self.k, source.k), (self.v, source.v)):
            mine[:, to, :, :length] = theirs[:, slot, :, :length]

    def grow(self, num_slots: int, capacity: int) -> None:
        """Make room for at least so many slots of at least so many tokens."""
        slots, room = max(0, num_slots - self.num_slots), max(0, capacity - self.capacity)
        if slots or room:
            self.k, self.v = (F.pad(x, (0, 0, 0, room, 0, 0, 0, slots)) for x in (self.k, self.v))
            self._by_token = self._views()


class TokenRows(Slots):
    """The ids that each row has read, (num_slots, capacity), for what looks back at them."""

    def __init__(self, num_rows: int, *, capacity: int, device: torch.device) -> None:
        super().__init__(num_rows)
        self.ids = torch.zeros(num_rows, capacity, dtype=torch.int64, device=device)

    @property
    def num_slots(self) -> int:
        """Slots that the tensor has room for."""
        return self.ids.size(0)

    @property
    def capacity(self) -> int:
        """Tokens a row may have."""
        return self.ids.size(1)

    def copy_slot(self, to: int, source: Slots, slot: int, length: int) -> None:
        """Copy the first `length` ids of a slot of `source` into the slot `to`."""
        assert isinstance(source, TokenRows)
        self.ids[to, :length] = source.ids[slot, :length]

    def grow(self, num_slots: int, capacity: int) -> None:
        """Make room for at least so many slots of at least so many tokens."""
        slots, room = max(0, num_slots - self.num_slots), max(0, capacity - self.capacity)
        if slots or room:
            self.ids = F.pad(self.ids, (0, room, 0, slots))


@dataclass
class AttentionState:
    """The decode state of a Transformer: its rows' own keys, and those of the memory, which rows share."""

    keys: KeyRows
    memory: KeyRows | None = None
    tokens: TokenRows | None = None

    def _parts(self) -> list[Slots]:
        return [part for part in (self.keys, self.tokens) if part is not None]

    @property
    def lengths(self) -> list[int]:
        """Tokens that each row has read."""
        return list(self.keys.lengths)

    def layout(self, counts: Sequence[int]) -> Layout:
        """Where counts[r] more tokens of each row will lie."""
        keys = self.keys
        layout = Layout.of(counts, keys.lengths, slots=keys.slots, device=keys.k.device)
        if max(layout.totals) > keys.capacity:
            raise ConfigError(
                f"a row would have {max(layout.totals)} tokens, but the state was started with capacity="
                f"{keys.capacity}; start it with more"
            )
        return layout

    def advance(self, layout: Layout) -> None:
        """Count the tokens of `layout` as read."""
        for part in self._parts():
            part.lengths = list(layout.totals)

    def select(self, rows: Sequence[int]) -> None:
        """Reorder, copy, drop: row i becomes what rows[i] was."""
        for part in self._parts():
            part.select(rows)
        if self.memory is not None:
            self.memory.select(rows, share=True)

    def join(self, other: DecodeState) -> None:
        """Take the other's rows in, after one's own."""
        assert isinstance(other, AttentionState)
        for mine, theirs in zip(self._parts(), other._parts(), strict=True):
            mine.join(theirs)
        if self.memory is not None:
            assert other.memory is not None
            self.memory.join(other.memory)

    def snapshot(self) -> Snapshot:
        """Where the rows are now, to go back to."""
        return Snapshot(tuple(self.keys.lengths))

    def rollback(self, snapshot: Snapshot) -> None:
        """Go back: what was appended since is dead, and will be written over."""
        assert all(a <= b for a, b in zip(snapshot.lengths, self.keys.lengths, strict=True))
        for part in self._parts():
            part.lengths = list(snapshot.lengths)
