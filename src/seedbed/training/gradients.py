"""The gradients of a step: that there are any, and their sums over the ranks."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from seedbed.base.errors import TrainingError
from seedbed.base.runtime import Runtime
from seedbed.training.checkpoints import first_names

BUCKET_NUMBERS = 2**24  # gradients per sum over the ranks: 64 MiB in float32


def require_gradient(loss: Tensor, names: Collection[str]) -> None:
    """Raise TrainingError if the loss depends on none of the parameters that train, with these names."""
    if not loss.requires_grad:
        raise TrainingError(
            f"the loss depends on none of the parameters that train ({first_names(list(names))}), so "
            "there is nothing to learn; leave others trainable, or choose another objective"
        )


def add_up_gradients(parameters: Iterable[nn.Parameter], runtime: Runtime) -> None:
    """Replace the gradients on every rank by their sum over all ranks; a missing one counts as 0.

    The order is the same in every step. DistributedDataParallel changes its buckets after the first step, so
    a resumed run of three or more ranks rounds differently from an uninterrupted one (measured 2026-11-24);
    it would overlap the sums with the backward pass.
    """
    members: list[nn.Parameter] = []
    for parameter in parameters:
        if members and sum(p.numel() for p in members) + parameter.numel() > BUCKET_NUMBERS:
            _add_up(members, runtime)
            members = []
        members.append(parameter)
    _add_up(members, runtime)


def _add_up(members: list[nn.Parameter], runtime: Runtime) -> None:
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
    sums = runtime.all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(members, sums.split([p.numel() for p in members]), strict=True):
        parameter.grad = part.view_as(parameter)
