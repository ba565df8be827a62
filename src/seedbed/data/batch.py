"""Examples (one row each, numpy) and batches (flat tensors with their layout)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.nn.layout import Layout


class Example(NamedTuple):
    """One row: inputs (n,), targets (m,), and for each target the input position whose output predicts it.

    `target_index` None: every position predicts, m = n.
    """

    input_ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    target_index: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows end to end, without padding; the targets are those of all rows, in the order of the rows."""

    input_ids: Tensor  # (N,)
    layout: Layout
    targets: Tensor  # (num_targets,)
    target_index: Tensor | None  # (num_targets,) into the N tokens; None: every position predicts

    @property
    def num_targets(self) -> int:
        """Targets of the batch."""
        return self.targets.numel()

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        device = torch.device(device)
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            layout=self.layout.to(device),
            targets=self.targets.to(device),
            target_index=None if self.target_index is None else self.target_index.to(device),
        )


def longest_first(examples: Sequence[Example]) -> list[Example]:
    """Sort by length, equal lengths in the order given: neighbours of one length are one attention call."""
    return sorted(examples, key=lambda example: -len(example.input_ids))


def collate(examples: Sequence[Example]) -> Batch:
    """Join rows into a batch, longest first."""
    rows = longest_first(examples)
    lengths = [len(row.input_ids) for row in rows]
    target_index = None
    if any(row.target_index is not None for row in rows):
        starts = np.cumsum([0, *lengths[:-1]])
        parts = [
            start + (np.arange(n) if row.target_index is None else row.target_index)
            for row, start, n in zip(rows, starts, lengths, strict=True)
        ]
        target_index = torch.from_numpy(np.concatenate(parts))
    return Batch(
        input_ids=torch.from_numpy(np.concatenate([row.input_ids for row in rows])),
        layout=Layout.of(lengths),
        targets=torch.from_numpy(np.concatenate([row.targets for row in rows])),
        target_index=target_index,
    )
