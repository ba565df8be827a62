"""Cross-entropy summed over targets, in the memory of the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Logits per chunk: on a CPU as many as its cache has space for (1,024 x 50,257 in float32 take 31 ms, in one
# chunk 39), elsewhere few enough that a float32 copy of half precision is small.
CPU_NUMBERS, DEVICE_NUMBERS = 2**19, 2**24


def cross_entropy_sum(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Summed nats of targets (n,) under logits (n, V), a float32 scalar, in the memory of the logits.

    They must not be read afterwards, and only one backward pass is possible. `label_smoothing` spreads that
    share of each target evenly over the vocabulary (Szegedy et al. 1512.00567, section 7).
    """
    if torch.compiler.is_compiling():  # the compiler fuses the plain formula itself
        return F.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=label_smoothing)
    loss: Tensor = _CrossEntropySum.apply(logits, targets, label_smoothing)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def target_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """The nats of each target (n,) under logits (n, V) in float32, in the memory of the logits."""
    parts = [-wide.gather(1, target)[:, 0] for _, wide, target in _log_softmax(logits, targets)]
    return torch.cat(parts)


def _log_softmax(logits: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Chunks of the logits, the same as log-probabilities (in their memory if float32), and their targets."""
    rows = max(1, (CPU_NUMBERS if logits.device.type == "cpu" else DEVICE_NUMBERS) // logits.shape[-1])
    wide_type = torch.promote_types(logits.dtype, torch.float32)
    for chunk, target in zip(logits.split(rows), targets[:, None].split(rows), strict=True):
        wide = chunk.to(wide_type)
        torch.log_softmax(wide, 1, out=wide)
        yield chunk, wide, target


class _CrossEntropySum(torch.autograd.Function):
    """Overwrites the logits by their softmax, and in the backward pass that by the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Forward."""
        parts, spread = [], []
        for chunk, wide, target in _log_softmax(logits, targets):
            parts.append(wide.gather(1, target))
            if smoothing:
                spread.append(wide.mean(1))
            torch.exp(wide, out=chunk)
        target_logprobs = torch.cat(parts)
        ctx.save_for_backward(logits, targets, target_logprobs.exp())
        ctx.smoothing = smoothing
        nats = -target_logprobs.sum()
        return nats.lerp(-torch.cat(spread).sum(), smoothing) if smoothing else nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Backward."""
        softmax, targets, target_probabilities = ctx.saved_tensors
        each = ctx.smoothing / softmax.shape[1]
        softmax.mul_(gradient)
        if each:
            softmax.sub_(gradient * each)
        at_targets = (target_probabilities - (1 - ctx.smoothing) - each) * gradient
        return softmax.scatter_(1, targets[:, None], at_targets.to(softmax.dtype)), None, None
