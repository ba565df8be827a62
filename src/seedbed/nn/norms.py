"""Norms over the last dimension."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seedbed.nn.config import ModelConfig


class RMSNorm(nn.Module):
    """x / rms(x), with a weight or without (Zhang and Sennrich 1910.07467); float32 inside.

    With `offset`, 1 is added to the weight, and the product is rounded only once (Gemma, 2403.08295).
    """

    def __init__(self, d_model: int, *, eps: float, weight: bool, offset: bool = False) -> None:
        super().__init__()
        self.eps, self.offset = eps, offset
        self.weight = nn.Parameter(torch.empty(d_model)) if weight else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., M) -> (..., M), in x's type."""
        y = F.rms_norm(x.float(), x.shape[-1:], eps=self.eps)
        if self.offset:
            assert self.weight is not None
            return (y * (1 + self.weight.float())).to(x.dtype)
        y = y.to(x.dtype)
        return y if self.weight is None else y * self.weight


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm of the config, over (..., d_model)."""
    if config.norm.startswith("rms"):
        weight, offset = config.norm != "rms_plain", config.norm == "rms_offset"
        return RMSNorm(config.d_model, eps=config.norm_eps, weight=weight, offset=offset)
    weight = config.norm != "layer_plain"
    bias = config.norm == "layer"
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, elementwise_affine=weight, bias=bias)
