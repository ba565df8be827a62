"""Linear maps and embeddings whose memory a family's initialisation or a bundle fills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn


class Projection(nn.Linear):
    """One product for several named parts that read the same input: x (N, M) -> (N, sum of the parts).

    Weight rules and adapters speak of the parts: a projection `attn.qkv` with parts q, k, v answers to
    `attn.q`, `attn.k` and `attn.v`.
    """

    def __init__(self, d_in: int, parts: Mapping[str, int], *, bias: bool) -> None:
        self.parts = dict(parts)
        super().__init__(d_in, sum(parts.values()), bias=bias)

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Embedding(nn.Embedding):
    """A table (num_rows, M) looked up by id, its memory left as it is."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


def named_parts(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by name, a projection's one by one as views of it."""
    for path, child in module.named_modules():
        if isinstance(child, Projection):
            parent = path.rpartition(".")[0]
            for name, parameter in child.named_parameters(recurse=False):
                pieces = parameter.detach().split(list(child.parts.values()))
                for part, piece in zip(child.parts, pieces, strict=True):
                    yield ".".join(filter(None, (parent, part, name))), piece
        else:
            for name, parameter in child.named_parameters(recurse=False):
                yield ".".join(filter(None, (path, name))), parameter.detach()
