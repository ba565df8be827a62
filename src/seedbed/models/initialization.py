"""Initial weights as the families published them; all random numbers are from the generator passed in."""

from __future__ import annotations

import torch
from torch import nn

from seedbed.nn.linear import EmbeddingLike, LinearLike, whole_modules


@torch.no_grad()
def normal(
    module: nn.Module, generator: torch.Generator, *, std: float = 0.02, residual_std: float | None = None
) -> None:
    """Projections and embeddings normal(0, std), ends of branches normal(0, residual_std), norms 1.

    GPT-2 scales the ends of branches by 1 / sqrt(2 num_layers) (Radford et al. 2019, section 2.3).
    """
    for name, child in whole_modules(module):
        if isinstance(child, LinearLike):
            ends = name.endswith((".out", ".down"))
            weight, bias = child.dense()
            weight.normal_(0, residual_std if ends and residual_std else std, generator=generator)
            if bias is not None:
                bias.zero_()
        elif isinstance(child, EmbeddingLike):
            child.dense().normal_(0, std, generator=generator)
        else:
            for parameter_name, parameter in child.named_parameters(recurse=False):
                parameter.fill_(1.0 if parameter_name == "weight" else 0.0)


@torch.no_grad()
def uniform(module: nn.Module, generator: torch.Generator, *, limit: float) -> None:
    """Every parameter uniform(-limit, limit)."""
    for parameter in module.parameters():
        parameter.uniform_(-limit, limit, generator=generator)
