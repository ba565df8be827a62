"""One layer of a Transformer: attention and feed-forward, each with a norm and a residual."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional as F

from seedbed.nn.attention import Attention, AttentionContext
from seedbed.nn.config import ModelConfig, NormPlace
from seedbed.nn.linear import Projection
from seedbed.nn.norms import make_norm


class _ReluSquared(torch.autograd.Function):
    """relu(x)^2 that stores only relu(x), with a backward pass of two calls."""

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


class _Gated(torch.autograd.Function):
    """activation(gate) * up of a gated feed-forward's h (N, 2 d_ff), of which h alone is saved."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """Forward."""
        ctx.activation = activation
        ctx.save_for_backward(h)
        gate, up = h.chunk(2, dim=-1)
        return activation(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Backward."""
        (h,) = ctx.saved_tensors
        gate, up = h.chunk(2, dim=-1)
        of_h = torch.empty_like(h)
        of_gate, of_up = of_h.chunk(2, dim=-1)
        with torch.enable_grad():
            gate = gate.detach().requires_grad_()
            opened = ctx.activation(gate)
        torch.mul(gradient, opened.detach(), out=of_up)
        # torch.autograd.grad with a gradient loads sympy and the compiler: 96 MiB (torch 2.13).
        how: dict[str, bool] = {"allow_unreachable": False, "accumulate_grad": False}
        found = _engine_run_backward((opened,), (gradient * up,), False, False, (gate,), **how)
        of_gate.copy_(found[0])
        return of_h, None


def _gated(h: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """h (N, 2 d_ff) -> activation(gate) * up, (N, d_ff)."""
    if not (torch.is_grad_enabled() and h.requires_grad) or torch.compiler.is_compiling():
        gate, up = h.chunk(2, dim=-1)
        return activation(gate) * up
    y: Tensor = _Gated.apply(h, activation)  # type: ignore[no-untyped-call]
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
    """Two matmuls with an activation between, gated where the config says so (Shazeer 2002.05202)."""

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
        h = _gated(h, self.activation) if self.gated else self.activation(h)
        y: Tensor = self.down(h)
        return y


class Block(nn.Module):
    """One layer: self-attention, cross-attention in an encoder-decoder's decoder, and feed-forward.

    Each is a branch that is added to the residual stream; `config.residual` places the norms. With
    `residual.parallel` all branches read the same input and are added at once.
    """

    attn_norm: nn.Module
    ffn_norm: nn.Module

    def __init__(self, config: ModelConfig, layer: int, *, cross: bool) -> None:
        super().__init__()
        self.residual, self.dropout = config.residual, config.dropout
        self._make_norms("attn", config)
        self.attn = Attention(config, layer, cross=False)
        if cross and not self.residual.parallel:
            self._make_norms("cross", config)
        self.cross = Attention(config, layer, cross=True) if cross else None
        if not self.residual.parallel:
            self._make_norms("ffn", config)
        self.ffn = FeedForward(config)

    def forward(self, x: Tensor, own: AttentionContext, memory: AttentionContext | None) -> Tensor:
        """x (N, M), the contexts of self- and cross-attention -> (N, M)."""
        branches: dict[str, Callable[[Tensor], Tensor]] = {"attn": partial(self.attn, context=own)}
        if self.cross is not None:
            assert memory is not None
            branches["cross"] = partial(self.cross, context=memory)
        branches["ffn"] = self.ffn
        if self.residual.parallel:
            return self._add("attn", x, *branches.values())
        for name, branch in branches.items():
            x = self._add(name, x, branch)
        return x

    def _add(self, name: str, x: Tensor, *branches: Callable[[Tensor], Tensor]) -> Tensor:
        """Add the branches' outputs to x; each word of NormPlace is one line here."""
        h = self._norm(name, "input", x)
        for branch in branches:
            y = branch(h)
            x = x + (F.dropout(y, self.dropout, self.training) if self.dropout else y)
        return self._norm(name, "sum", x)

    def _norm(self, name: str, place: NormPlace, x: Tensor) -> Tensor:
        if place not in self.residual.norms:
            return x
        y: Tensor = getattr(self, self._norm_name(name, place))(x)
        return y

    def _norm_name(self, name: str, place: NormPlace) -> str:
        """The first norm of a branch has the short name."""
        return f"{name}_norm" if place == self.residual.norms[0] else f"{name}_{place}_norm"

    def _make_norms(self, name: str, config: ModelConfig) -> None:
        for place in self.residual.norms:
            self.add_module(self._norm_name(name, place), make_norm(config))
