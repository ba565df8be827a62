"""Examples (one row each, numpy) and batches (flat tensors with their layout)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.nn.layout import Layout


class Example(NamedTuple):
    """One row: inputs (n,), targets (m,), and for each target the input position whose output predicts it.

    `target_index` None: every position predicts, m = n; or the row as a whole, m = 1. `source_ids` (s,) are
    the inputs of an encoder; `input_ids` are then those of the decoder.
    """

    input_ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    target_index: NDArray[np.int64] | None = None
    source_ids: NDArray[np.int64] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that the network reads."""
        return len(self.input_ids) + (0 if self.source_ids is None else len(self.source_ids))


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows concatenated without padding, and the targets of all rows in the order of the rows."""

    input_ids: Tensor  # (N,)
    layout: Layout
    targets: Tensor  # (num_targets,)
    target_index: Tensor | None  # (num_targets,) into the N tokens; None: every position or row predicts
    source_ids: Tensor | None = None  # (N_source,), of an encoder-decoder
    source_layout: Layout | None = None

    @property
    def num_targets(self) -> int:
        """Targets of the batch."""
        return self.targets.numel()

    @property
    def num_tokens(self) -> int:
        """Tokens that the network reads, N + N_source."""
        return len(self.input_ids) + (0 if self.source_ids is None else len(self.source_ids))

    @property
    def source(self) -> dict[str, Any]:
        """The keyword arguments of a forward pass for the encoder, none without one."""
        if self.source_ids is None:
            return {}
        return {"source": self.source_ids, "source_layout": self.source_layout}

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor of the batch."""
        found: list[Tensor] = [self.input_ids, self.targets]
        found += [tensor for tensor in (self.target_index, self.source_ids) if tensor is not None]
        layouts = [layout for layout in (self.layout, self.source_layout) if layout is not None]
        return found + [t for layout in layouts for t in (layout.positions, layout.token_slots)]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        device = torch.device(device)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: v.to(device) for name, v in values.items() if v is not None})


def row_lengths(example: Example) -> tuple[int, int]:
    """The lengths by which rows are sorted, longest first."""
    return -len(example.input_ids), 0 if example.source_ids is None else -len(example.source_ids)


def longest_first(examples: Sequence[Example]) -> list[Example]:
    """Sort by length and keep the order of equals: neighbours of one length are one attention call."""
    return sorted(examples, key=row_lengths)


def collate(examples: Sequence[Example]) -> Batch:
    """Concatenate rows into a batch, longest first."""
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
    sources = [row.source_ids for row in rows if row.source_ids is not None]
    assert len(sources) in (0, len(rows))
    return Batch(
        input_ids=torch.from_numpy(np.concatenate([row.input_ids for row in rows])),
        layout=Layout.of(lengths),
        targets=torch.from_numpy(np.concatenate([row.targets for row in rows])),
        target_index=target_index,
        source_ids=torch.from_numpy(np.concatenate(sources)) if sources else None,
        source_layout=Layout.of([len(source) for source in sources]) if sources else None,
    )
