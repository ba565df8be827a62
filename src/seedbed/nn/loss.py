"""Cross-entropy summed over targets, at the memory of the logits alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Logits in half precision are worked on in float32 so many numbers at a time.
CHUNK_NUMBERS = 2**24


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed nats of targets (n,) under logits (n, V), a float32 scalar; the logits' memory is used up.

    `F.cross_entropy` holds the logits, their log-softmax and their gradient at once; here all three are
    written over one another. So the logits may be read by nothing else afterwards, and there is one
    backward pass.
    """
    if torch.compiler.is_compiling():  # the compiler fuses the plain formula itself
        return F.cross_entropy(logits.float(), targets, reduction="sum")
    loss: Tensor = _CrossEntropySum.apply(logits, targets)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropySum(torch.autograd.Function):
    """Turns the logits into softmax on the way forward, and that into the gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        """Forward."""
        rows = max(1, CHUNK_NUMBERS // logits.shape[-1]) if logits.dtype.itemsize < 4 else len(logits)
        total = logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
        target_probabilities = []
        for chunk, target in zip(
            logits.split(max(1, rows)), targets[:, None].split(max(1, rows)), strict=True
        ):
            wide = chunk.to(total.dtype)
            target_logits = wide.gather(1, target)
            highest = wide.amax(1, keepdim=True)
            torch.softmax(wide, 1, out=wide)
            # The highest probability is at least 1/V: its logarithm is exact where the target's may be -inf.
            normalizer = highest - wide.amax(1, keepdim=True).log()
            total += (normalizer - target_logits).sum()
            target_probabilities.append((target_logits - normalizer).exp())
            if wide is not chunk:
                chunk.copy_(wide)
        ctx.save_for_backward(logits, targets, torch.cat(target_probabilities))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Backward."""
        softmax, targets, target_probabilities = ctx.saved_tensors
        softmax.mul_(gradient)
        at_targets = (target_probabilities - 1) * gradient
        return softmax.scatter_(1, targets[:, None], at_targets.to(softmax.dtype)), None
