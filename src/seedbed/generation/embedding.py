"""Vectors of texts from a network's last hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from seedbed.base.errors import UsageError, nearest
from seedbed.generation.scoring import flat
from seedbed.hub.vectors import VectorSettings
from seedbed.models.family import Network
from seedbed.models.transformer import Transformer
from seedbed.nn.layout import Layout

Pooling = Literal["mean", "first"]
BATCH_TOKENS = 4096


def chosen_vectors(
    settings: VectorSettings | None, pooling: str | None, normalize: bool | None
) -> tuple[str, bool]:
    """The pooling and whether to normalize: as requested, else as in the model's folder, else the mean."""
    settings = settings or VectorSettings()
    if pooling is None and settings.problem is not None:
        raise UsageError(
            f"{settings.problem}, which is not supported; give pooling='mean' or 'first' for vectors of "
            "another kind, which the model was not trained for"
        )
    is_normalized = settings.normalize if normalize is None else normalize
    return settings.pooling if pooling is None else pooling, is_normalized


@torch.no_grad()
def row_states(module: Network, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Tensor]]:
    """The index of each row with its last hidden states (tokens, d_model) in float32, shorter rows first.

    They are the encoder's if there is one.
    """
    encodes = isinstance(module, Transformer) and module.encoder is not None
    for members, ids, layout in batches(rows, module.device):
        hidden = (module.encode if encodes else module)(ids, layout)  # type: ignore[operator]
        yield from zip(members, hidden.float().split(layout.lengths), strict=True)


@torch.no_grad()
def embed_rows(module: Network, rows: Sequence[Sequence[int]], *, pooling: str = "mean") -> Tensor:
    """The mean of each row's states in `row_states`, or the first: (rows, d_model) in float32."""
    if pooling not in get_args(Pooling):
        raise UsageError(f"pooling {pooling!r} is unknown; {nearest(str(pooling), get_args(Pooling))}")
    vectors = torch.empty(len(rows), module.config.d_model, device=module.device)
    for r, states in row_states(module, rows):
        vectors[r] = states.mean(0) if pooling == "mean" else states[0]
    return vectors


def batches(
    rows: Sequence[Sequence[int]], device: torch.device
) -> Iterator[tuple[list[int], Tensor, Layout]]:
    """Rows of similar length, BATCH_TOKENS tokens together, a longer row alone: indices, ids (N,), layout."""
    groups: list[list[int]] = []
    for r in sorted(range(len(rows)), key=lambda r: len(rows[r])):
        if groups and (len(groups[-1]) + 1) * len(rows[r]) <= BATCH_TOKENS:
            groups[-1].append(r)
        else:
            groups.append([r])
    for members in groups:
        yield members, *flat([rows[r] for r in members], device)
