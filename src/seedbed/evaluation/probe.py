"""A linear probe on frozen features, and the share that it predicts right with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from seedbed.generation.scoring import row_states
from seedbed.models.family import Network

WEIGHT_DECAY, ITERATIONS = 1e-3, 100
Z = 1.96  # of a 95% interval


def features(module: Network, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """The last hidden states (tokens, d_model) of each row, the encoder's where there is one."""
    found = dict(row_states(module, rows))
    return [found[r] for r in range(len(rows))]


def probe_hits(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *, num_classes: int) -> Tensor:
    """Which of the test rows (n, d_model) a softmax regression classifies right, (n,) of 0 and 1.

    It is fitted on the training rows and their classes (n,), each feature at mean 0 and variance 1, by L-BFGS
    with a little weight decay (Alain and Bengio 1610.01644).
    """
    (x, y), (tested, labels) = train, test
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    x, tested = (x - mean) / std, (tested - mean) / std
    weight = torch.zeros(num_classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = F.cross_entropy(F.linear(x, weight, bias), y) + WEIGHT_DECAY * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        return (F.linear(tested, weight, bias).argmax(-1) == labels).float()


def share_of(hits: Tensor) -> dict[str, object]:
    """The mean of shares (n,), one per independent trial, with its 95% interval from their variance."""
    value, n = hits.mean().item(), len(hits)
    # Two more trials each way: an interval of n wrong trials is not empty (Agresti and Coull 1998).
    spread = torch.cat([hits, hits.new_tensor([0.0, 0.0, 1.0, 1.0])]).std().item() / math.sqrt(n + 4)
    return {"value": value, "interval": [max(0.0, value - Z * spread), min(1.0, value + Z * spread)]}
