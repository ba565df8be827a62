"""The module of LoRA: a Linear-like module with products of small matrices beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seedbed.models.adapter import Site
from seedbed.nn.linear import LinearLike, Weights


class Pair(NamedTuple):
    """Two matrices for one site: their inner size, and what their product is multiplied by."""

    site: Site
    rank: int
    scale: float


class LowRank(nn.Module):
    """A Linear-like module and, for some of its parts, two small matrices beside it.

    `down` (R, in_features) has the first matrices of all pairs, one below the other; `up` has the second one
    of each, (rows of its parts, rank). They are float32 whatever the type of the base is.
    """

    def __init__(self, base: nn.Module, pairs: Sequence[Pair], *, dropout: float) -> None:
        super().__init__()
        assert isinstance(base, LinearLike)
        self.base, self.parts, self.in_features = base, dict(base.parts), base.in_features
        self.pairs, self.dropout = list(pairs), dropout
        starts = dict(zip(self.parts, _starts([*self.parts.values()]), strict=True))
        self.columns = []  # of the output, for each pair
        for pair in pairs:
            size = sum(self.parts[part] for part in pair.site.parts)
            first = starts[pair.site.parts[0]]
            self.columns.append(slice(first, first + size))
        ranks = [pair.rank for pair in pairs]
        self.inner = [slice(at, at + rank) for at, rank in zip(_starts(ranks), ranks, strict=True)]
        device = base.dense()[0].device
        self.down = nn.Parameter(torch.empty(sum(ranks), self.in_features, device=device))
        self.up = nn.ParameterList(
            nn.Parameter(torch.empty(columns.stop - columns.start, rank, device=device))
            for columns, rank in zip(self.columns, ranks, strict=True)
        )

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """The first matrix is uniform as in the authors' code, the second zero: the output is unchanged."""
        limit = 1 / math.sqrt(self.in_features)
        self.down.uniform_(-limit, limit, generator=generator)
        for up in self.up:
            up.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in_features) -> (N, sum of the parts)."""
        y: Tensor = self.base(x)
        x = x.to(y.dtype)
        if self.dropout and self.training:
            x = F.dropout(x, self.dropout)
        down, ups = self.down.to(y.dtype), [up.to(y.dtype) for up in self.up]
        scales = [pair.scale for pair in self.pairs]
        if torch.compiler.is_compiling():  # the compiler does not know functions that write into an input
            return y + self._plain(x, down, ups)
        places = list(zip(self.inner, self.columns, scales, strict=True))
        return cast(Tensor, _AddLowRank.apply(y, x, down, places, *ups))  # type: ignore[no-untyped-call]

    def _plain(self, x: Tensor, down: Tensor, ups: Sequence[Tensor]) -> Tensor:
        """What is added, (N, sum of the parts)."""
        h = x @ down.T
        added = x.new_zeros(len(x), sum(self.parts.values()))
        for pair, inner, columns, up in zip(self.pairs, self.inner, self.columns, ups, strict=True):
            added[:, columns] = h[:, inner] @ up.T * pair.scale
        return added

    def dense(self) -> Weights:
        """The merged weight, summed in float32 or wider, in the type of the base, and its bias."""
        weight, bias = self.base.dense()
        wide = torch.promote_types(weight.dtype, torch.float32)
        merged, down = weight.detach().to(wide, copy=True), self.down.to(wide)
        with torch.no_grad():
            for pair, inner, columns, up in zip(self.pairs, self.inner, self.columns, self.up, strict=True):
                merged[columns].addmm_(up.to(wide), down[inner], alpha=pair.scale)
        return merged.to(weight.dtype), bias

    def first(self, number: int) -> Tensor:
        """The first matrix of a pair, (rank, in_features)."""
        return self.down[self.inner[number]]


class _AddLowRank(torch.autograd.Function):
    """Adds the products into the output of the base: nothing of the output's size is allocated or saved."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, down: Tensor, places: Any, *ups: Tensor) -> Tensor:
        """Forward."""
        h = x @ down.T  # (N, R)
        for (inner, columns, scale), up in zip(places, ups, strict=True):
            y[:, columns].addmm_(h[:, inner], up.T, alpha=scale)
        ctx.places = places
        ctx.mark_dirty(y)
        ctx.save_for_backward(x, h, down, *ups)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Backward."""
        x, h, down, *ups = ctx.saved_tensors
        of_h, of_ups = torch.empty_like(h), []
        for (inner, columns, scale), up in zip(ctx.places, ups, strict=True):
            own = gradient[:, columns]
            torch.mm(own, up, out=of_h[:, inner]).mul_(scale)
            of_ups.append((own.T @ h[:, inner]).mul_(scale))
        of_x = of_h @ down if ctx.needs_input_grad[1] else None
        return gradient, of_x, of_h.T @ x, None, *of_ups


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:number]) for number in range(len(sizes))]
