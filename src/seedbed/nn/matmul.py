"""The matmul of a few tokens in float32 on a CPU: the processor decides which kernel computes it.

The choice depends on the processor's vendor and instructions and never on timing, so that a command gives the
same tokens each time. With AVX-512, oneDNN is 1.13 to 1.68 times as fast as F.linear on an Intel for 4 to 32
tokens, and 1.3 to 3.7 times on a Zen 5 for 1 to 64, over weights from memory; vectors for one token 1.00 to
1.03 times. oneDNN over small weights in the cache, or kept to AVX2, is slower (docs/LOG.md, 2026-11-27).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seedbed.base.hardware import cpu_info

Call = Callable[[Tensor], Tensor]
LARGE_NUMBERS, LARGE_FOR_ONE = 2**19, 768 * 768  # of a weight that is read from memory; for one token


def onednn_tokens(vendor: str, capability: str) -> tuple[int, int]:
    """The minimum and maximum number of tokens for which oneDNN is faster; (1, 0) where not measured."""
    if capability != "AVX512":
        return 1, 0
    return (1, 64) if vendor == "AuthenticAMD" else (4, 32)


HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ONEDNN_TOKENS = (
    onednn_tokens(cpu_info("vendor_id"), torch.backends.cpu.get_cpu_capability()) if HAS_ONEDNN else (1, 0)
)


# Over a weight that is not trained, with the many tokens of a training, both ways: 1.06 to 1.19 times as fast
# as F.linear on a Zen 5 (2026-11-29); not measured elsewhere.
FROZEN_ONEDNN = HAS_ONEDNN and onednn_tokens("AuthenticAMD", "AVX512") == ONEDNN_TOKENS


def is_plain(x: Tensor) -> bool:
    """Whether matmuls of x are float32 on a CPU, without gradients."""
    return _is_float32(x) and not torch.is_grad_enabled()


def _is_float32(x: Tensor) -> bool:
    return x.dtype is torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _is_frozen(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether only x learns, in float32 on a CPU."""
    learns = weight.requires_grad or (bias is not None and bias.requires_grad) or not x.requires_grad
    return not learns and torch.is_grad_enabled() and _is_float32(x) and not torch.compiler.is_compiling()


def may_use_onednn(num_tokens: int, like: Tensor) -> bool:
    """Whether oneDNN may compute matmuls of this number of tokens."""
    return ONEDNN_TOKENS[0] <= num_tokens <= ONEDNN_TOKENS[1] and is_plain(like)


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (N, d_in), weight (d_out, d_in), bias (d_out,) -> (N, d_out)."""
    num_tokens = x.size(0)
    if FROZEN_ONEDNN and weight.numel() >= LARGE_NUMBERS and _is_frozen(x, weight, bias):
        y: Tensor = _FrozenMatmul.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return y
    large = LARGE_NUMBERS if num_tokens > 1 else LARGE_FOR_ONE
    few = may_use_onednn(num_tokens, x) and weight.numel() >= large
    return (_onednn if few else F.linear)(x, weight, bias)


# The calls of a decoding step, each built once for a weight and bias.


def linear_call(weight: Tensor, bias: Tensor | None) -> Call:
    """F.linear over any number of tokens x (N, d_in)."""
    return partial(F.linear, weight=weight, bias=bias)


def few_tokens_call(weight: Tensor, bias: Tensor | None) -> Call:
    """The same where `may_use_onednn`."""
    return partial(_onednn if weight.numel() >= LARGE_NUMBERS else F.linear, weight=weight, bias=bias)


def one_token_call(weight: Tensor, bias: Tensor | None) -> Call:
    """The same for one token x (d_in,) -> (d_out,), where `is_plain`."""
    if weight.numel() >= LARGE_FOR_ONE and ONEDNN_TOKENS[0] <= 1 <= ONEDNN_TOKENS[1]:
        return partial(_onednn, weight=weight, bias=bias)
    return partial(torch.mv, weight) if bias is None else partial(torch.addmv, bias, weight)


class _FrozenMatmul(torch.autograd.Function):
    """The matmul by oneDNN over a weight that is not trained."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Forward."""
        ctx.save_for_backward(weight)
        return _onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Backward."""
        return _onednn(gradient, ctx.saved_tensors[0].T, None), None, None


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return y
