"""Search by vectors: exact, by the cosine of texts' embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


class VectorIndex:
    """Vectors (texts, d_model) that are found by their cosine with another one."""

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = torch.nn.functional.normalize(vectors.float(), dim=-1)

    def nearest(self, query: Tensor, number: int) -> list[int]:
        """The numbers of at most so many vectors, the nearest to a query (d_model,) first; ties in order."""
        cosines = self._vectors @ torch.nn.functional.normalize(query.float(), dim=-1)
        order = cosines.sort(descending=True, stable=True).indices
        found: list[int] = order[: max(0, number)].tolist()
        return found
