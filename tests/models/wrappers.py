"""Wrappers of Linear-like modules and of embeddings, as adapters and packed weights are."""

from typing import Any

import torch
from torch import Tensor, nn

from seedbed.nn.linear import EmbeddingLike, LinearLike, replace, whole_modules


class Linear(nn.Module):
    """Wraps a Linear-like module with a call of its own, as an adapter does."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.parts, self.in_features = inner, inner.parts, inner.in_features

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y

    def dense(self) -> tuple[Tensor, Tensor | None]:
        dense: tuple[Tensor, Tensor | None] = self.inner.dense()
        return dense


class PlainLinear(Linear):
    """Also passes on the weights for the fast path."""

    def plain_weights(self) -> tuple[Tensor, Tensor | None] | None:
        weights: tuple[Tensor, Tensor | None] | None = self.inner.plain_weights()
        return weights


class FlippedLinear(Linear):
    """Reverses the order of the output's numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flip(-1)

    def dense(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = super().dense()
        return weight.flip(0), None if bias is None else bias.flip(0)


class Table(nn.Module):
    """The same for an embedding."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.num_embeddings, self.embedding_dim = inner, inner.num_embeddings, inner.embedding_dim

    @property
    def device(self) -> torch.device:
        device: torch.device = self.inner.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.inner.dtype
        return dtype

    def forward(self, ids: Tensor) -> Tensor:
        rows: Tensor = self.inner(ids)
        return rows

    def unembed(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        logits: Tensor = self.inner.unembed(hidden, bias)
        return logits

    def dense(self) -> Tensor:
        table: Tensor = self.inner.dense()
        return table


class TiedTable(Table):
    """Also passes on the lookup that shares its gradient with the output."""

    def tied(self, ids: Tensor) -> Any:
        return self.inner.tied(ids)


class FlippedTable(Table):
    """Reverses the order of a row's numbers, in both of its uses."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids).flip(-1)

    def unembed(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        return super().unembed(hidden.flip(-1), bias)

    def dense(self) -> Tensor:
        return super().dense().flip(1)


WRAPPERS = {"closed": (Linear, Table), "open": (PlainLinear, TiedTable)}


def places(module: nn.Module) -> list[str]:
    return [p for p, child in whole_modules(module) if isinstance(child, LinearLike | EmbeddingLike)]


def wrap(module: nn.Module, path: str, linear: type[Linear], table: type[Table]) -> None:
    inner = module.get_submodule(path)
    replace(module, path, (linear if isinstance(inner, LinearLike) else table)(inner))
