"""Initial weights as the families published them; all random numbers are from the generator passed in."""

from __future__ import annotations

import torch
from torch import nn

from seedbed.nn.linear import EmbeddingLike, LinearLike, whole_modules


@torch.no_grad()
def normal(module: nn.Module, generator: torch.Generator, *, residual_std: float = 0.02) -> None:
    """Projections and embeddings normal(0, 0.02), ends of branches normal(0, residual_std), norms 1."""
    for name, child in whole_modules(module):
        if isinstance(child, LinearLike):
            ends = name.endswith((".out", ".down"))
            weight, bias = child.dense()
            weight.normal_(0, residual_std if ends else 0.02, generator=generator)
            if bias is not None:
                bias.zero_()
        elif isinstance(child, EmbeddingLike):
            child.dense().normal_(0, 0.02, generator=generator)
        else:
            for parameter_name, parameter in child.named_parameters(recurse=False):
                parameter.fill_(1.0 if parameter_name == "weight" else 0.0)
