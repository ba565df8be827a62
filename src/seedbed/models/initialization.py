"""Initial weights as the families published them; all random numbers are from the generator passed in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from seedbed.nn.linear import EmbeddingLike, LinearLike, whole_modules


@torch.no_grad()
def normal(
    module: nn.Module,
    generator: torch.Generator,
    *,
    std: Callable[[str, LinearLike], float] = lambda name, linear: 0.02,
    embedding_std: float = 0.02,
) -> None:
    """Projections normal(0, std), with a std for each, embeddings normal(0, embedding_std), norms 1."""
    for name, child in whole_modules(module):
        if isinstance(child, LinearLike):
            weight, bias = child.dense()
            weight.normal_(0, std(name, child), generator=generator)
            if bias is not None:
                bias.zero_()
        elif isinstance(child, EmbeddingLike):
            child.dense().normal_(0, embedding_std, generator=generator)
        else:
            for parameter_name, parameter in child.named_parameters(recurse=False):
                parameter.fill_(1.0 if parameter_name == "weight" else 0.0)
