"""One layer of a Transformer: attention and feed-forward, each with a norm and a residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seedbed.nn.attention import Attention, View
from seedbed.nn.config import ModelConfig
from seedbed.nn.linear import Projection
from seedbed.nn.norms import make_norm


class _ReluSquared(torch.autograd.Function):
    """Keeps relu(x) alone, and goes back in two calls."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Forward."""
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Backward."""
        down: Tensor = gradient * ctx.saved_tensors[0]
        return down.mul_(2)


def _relu_squared(x: Tensor) -> Tensor:
    """relu(x)^2 (So et al. 2109.08668)."""
    if not torch.is_grad_enabled():
        return F.relu(x).square_()
    y: Tensor = _ReluSquared.apply(x)  # type: ignore[no-untyped-call]
    return y


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_squared": _relu_squared,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """Two products with an activation between, gated where the config says so (Shazeer 2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        parts = dict.fromkeys(("gate", "up") if config.gated_ffn else ("up",), config.d_ff)
        self.gated, self.activation = config.gated_ffn, ACTIVATIONS[config.activation]
        bias = config.bias == "all"
        self.inner = Projection(config.d_model, parts, bias=bias)
        self.down = Projection(config.d_ff, {"down": config.d_model}, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, M) -> (N, M)."""
        h = self.inner(x)
        if not self.gated:
            h = self.activation(h)
        else:
            gate, up = h.chunk(2, dim=-1)
            h = self.activation(gate) * up
        y: Tensor = self.down(h)
        return y


class Block(nn.Module):
    """Self-attention, cross-attention where there is a memory, feed-forward."""

    def __init__(self, config: ModelConfig, layer: int, *, cross: bool) -> None:
        super().__init__()
        self.residual, self.dropout = config.residual, config.dropout
        self.attn_norm = make_norm(config)
        self.attn = Attention(config, layer, cross=False)
        self.cross_norm = make_norm(config) if cross else None
        self.cross = Attention(config, layer, cross=True) if cross else None
        self.ffn_norm = None if config.residual == "parallel" else make_norm(config)
        self.ffn = FeedForward(config)

    def forward(self, x: Tensor, own: View, memory: View | None) -> Tensor:
        """x (N, M) -> (N, M)."""
        if self.ffn_norm is None:
            h = self.attn_norm(x)
            return x + self._drop(self.attn(h, own)) + self._drop(self.ffn(h))
        x = self._attend(x, self.attn_norm, self.attn, own)
        if self.cross is not None:
            assert self.cross_norm is not None and memory is not None
            x = self._attend(x, self.cross_norm, self.cross, memory)
        if self.residual == "pre":
            return x + self._drop(self.ffn(self.ffn_norm(x)))
        return self.ffn_norm(x + self._drop(self.ffn(x)))  # type: ignore[no-any-return]

    def _attend(self, x: Tensor, norm: nn.Module, attention: nn.Module, view: View) -> Tensor:
        if self.residual == "pre":
            return x + self._drop(attention(norm(x), view))
        return norm(x + self._drop(attention(x, view)))  # type: ignore[no-any-return]

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
