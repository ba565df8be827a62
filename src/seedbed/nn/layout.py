"""Flat batches: rows of different lengths are concatenated to N tokens; the layout stores where each row is.

Shape letters: N tokens of a flat batch, B rows of one group, T query and S key positions of a row, H heads,
K key/value heads, D head_dim, M d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from seedbed.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Group:
    """Neighbouring rows of one attention call: (num_rows, num_queries) over (num_rows, num_keys)."""

    first_token: int
    num_rows: int
    num_queries: int
    first_slot: int  # of the neighbouring slots in which the keys are stored
    key_lengths: tuple[int, ...]

    @property
    def num_keys(self) -> int:
        """Keys of the longest row."""
        return max(self.key_lengths)

    @property
    def slots(self) -> slice:
        """The slots of its rows."""
        return slice(self.first_slot, self.first_slot + self.num_rows)

    @property
    def is_even(self) -> bool:
        """No key is padding."""
        return min(self.key_lengths) == self.num_keys


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """Where the rows of a flat batch are: row r has lengths[r] tokens after past[r] tokens in slot slots[r].

    A row is a document: attention never leaves it, positions start at 0, and a key's position is its index.
    A row of length 0 is idle.
    """

    lengths: tuple[int, ...]
    past: tuple[int, ...]
    slots: tuple[int, ...]
    positions: Tensor  # (N,) of each token in its row

    @classmethod
    def of(
        cls,
        lengths: Sequence[int],
        past: Sequence[int] = (),
        *,
        slots: Sequence[int] = (),
        device: torch.device | None = None,
    ) -> Layout:
        """The layout of concatenated rows, row r with lengths[r] tokens after past[r] earlier ones."""
        past, slots = past or [0] * len(lengths), slots or range(len(lengths))
        if not len(lengths) == len(past) == len(slots):
            raise ConfigError(
                f"{len(lengths)} rows, but {len(past)} pasts and {len(slots)} slots: pass one of each per row"
            )
        if len(lengths) == 1:  # every call counts in decoding at batch 1
            positions = torch.arange(past[0], past[0] + lengths[0])
        elif all(n == 1 for n in lengths):
            positions = torch.tensor(past, dtype=torch.int64)
        else:
            shift = [p - end + n for p, n, end in zip(past, lengths, accumulate(lengths), strict=True)]
            positions = torch.tensor(shift).repeat_interleave(torch.tensor(lengths))
            positions += torch.arange(len(positions))
        return cls(
            lengths=tuple(lengths), past=tuple(past), slots=tuple(slots), positions=positions.to(device)
        )

    @cached_property
    def token_slots(self) -> Tensor:
        """The slot of each token, (N,)."""
        slots, lengths = torch.tensor([self.slots, self.lengths], dtype=torch.int64)
        of_tokens: Tensor = slots.repeat_interleave(lengths)
        return of_tokens.to(self.positions.device)

    @property
    def totals(self) -> tuple[int, ...]:
        """Tokens of each row after this batch."""
        return tuple(p + n for p, n in zip(self.past, self.lengths, strict=True))

    def to(self, device: torch.device) -> Layout:
        """The same layout with its tensors on `device`."""
        return replace(self, positions=self.positions.to(device))

    def last_tokens(self) -> list[int]:
        """Index in the flat batch of the last token of each row that is not idle."""
        return [end - 1 for end, n in zip(accumulate(self.lengths), self.lengths, strict=True) if n]

    def groups(self, key_lengths: Sequence[int], slots: Sequence[int], slack: int = 0) -> list[Group]:
        """Join neighbouring rows in neighbouring slots that have equal numbers of queries and of keys.

        Up to `slack` keys of padding per row save a call. Rows that share a slot become queries of one row.
        """
        groups: list[Group] = []
        first_token = 0
        for t, s, slot in zip(self.lengths, key_lengths, slots, strict=True):
            if t == 0:
                continue
            group = Group(
                first_token=first_token, num_rows=1, num_queries=t, first_slot=slot, key_lengths=(s,)
            )
            first_token += t
            last = groups[-1] if groups else group
            keys = (*last.key_lengths, s)
            if groups and last.num_rows == 1 and last.first_slot == slot:
                group = replace(groups.pop(), num_queries=last.num_queries + t)
            elif (
                groups
                and last.num_queries == t
                and last.first_slot + last.num_rows == slot
                and max(keys) * len(keys) - sum(keys) <= slack * last.num_rows
            ):
                group = replace(groups.pop(), num_rows=len(keys), key_lengths=keys)
            groups.append(group)
        return groups


def split_groups(x: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Flat x (N, heads, D) -> a view (rows, heads, tokens, D) for each (rows, tokens) in order.

    By one `split` and not by slices: the backward pass of a slice fills a whole (N, heads, D) with zeros.
    """
    heads = x.shape[1:]
    if len(shapes) == 1:
        return [x.view(*shapes[0], *heads).transpose(1, 2)]
    parts = x.split([b * t for b, t in shapes])
    return [part.view(*shape, *heads).transpose(1, 2) for part, shape in zip(parts, shapes, strict=True)]


def restore(flat: Tensor, attention_mask: Tensor) -> Tensor:
    """Flat (N, M) -> padded (batch, seq, M), with zeros where the mask is 0."""
    padded = flat.new_zeros(*attention_mask.shape, flat.size(-1))
    padded[attention_mask.bool()] = flat
    return padded
