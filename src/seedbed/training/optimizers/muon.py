"""Muon for the layers' matrices (Jordan et al. 2024), evened out as NorMuon does; AdamW for all else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seedbed.nn.linear import Projection
from seedbed.training.optimizer import Optimizer, Parameters, UpdateRule, trainable
from seedbed.training.optimizers.adamw import AdamW
from seedbed.training.settings import TrainingSettings

# The first three polynomials a x + b x^3 + c x^5 of Polar Express (Amsel et al. 2505.16932, algorithm 1).
POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)
BETA2 = 0.95  # of the neurons' mean squares


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices (stack, rows, columns) with their singular values moved towards 1, the vectors kept."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) * 1.02 + 1e-7)
    for a, b, c in POLYNOMIALS:
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Piece(NamedTuple):
    """One matrix: some rows of a parameter."""

    name: str
    parameter: nn.Parameter
    rows: slice


class Stack:
    """Matrices of one shape (rows, columns), and what is remembered of them."""

    def __init__(self, pieces: Sequence[Piece], shape: torch.Size) -> None:
        self.pieces = pieces
        rows, columns = shape
        # NorMuon evens out the neurons: the rows, or the columns where there are more of them.
        self.axis = -1 if rows >= columns else -2
        self.scale = max(1.0, rows / columns) ** 0.5
        self.momentum = pieces[0].parameter.detach().new_zeros(len(pieces), rows, columns)
        self.power = torch.zeros_like(self.momentum.sum(self.axis, keepdim=True))

    def updates(self, gradient: Tensor, momentum: float, num_updates: int) -> Tensor:
        """The direction of the step for gradients (stack, rows, columns), whose memory is used up."""
        self.momentum.lerp_(gradient, 1 - momentum)
        x = orthogonalize(gradient.lerp_(self.momentum, momentum))  # Nesterov
        size = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
        self.power.lerp_(x.square().mean(self.axis, keepdim=True), 1 - BETA2)
        x *= (self.power / (1 - BETA2**num_updates) + 1e-8).rsqrt()
        x *= size / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
        return x


class Muon:
    """Momentum, orthogonalized, its neurons evened out; a few calls for all matrices of one shape.

    `parts` has for a parameter the rows of each matrix in it (q, k, v), which are orthogonalized apart. An
    update has singular values of about 1, times sqrt(rows / columns) where there are more rows, so that one
    learning rate serves every shape; then each neuron's mean square is divided out and the norm restored
    (NorMuon, Li et al. 2510.05491). The momentum rises from 0.85 to 0.95 over 300 updates.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        learning_rate: float,
        weight_decay: float = 0.0,
        parts: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.num_updates = torch.zeros((), dtype=torch.int64)
        by_shape: dict[torch.Size, list[Piece]] = {}
        for name, parameter in parameters.items():
            start = 0
            for rows in (parts or {}).get(name, [len(parameter)]):
                where = slice(start, start + rows)
                by_shape.setdefault(parameter[where].shape, []).append(
                    Piece(f"{name}.{start}", parameter, where)
                )
                start += rows
        self.stacks = [Stack(pieces, shape) for shape, pieces in by_shape.items()]
        self.state = {"num_updates": self.num_updates}
        for stack in self.stacks:
            for piece, momentum, power in zip(stack.pieces, stack.momentum, stack.power, strict=True):
                self.state |= {f"{piece.name}.momentum": momentum, f"{piece.name}.power": power}

    def step(self, factor: float, gradient_scale: float) -> None:
        """Update every matrix; of a stack all have a gradient or none has."""
        momentum = 0.85 + 0.1 * min(1.0, int(self.num_updates) / 300)
        self.num_updates += 1
        learning_rate = self.learning_rate * factor
        for stack in self.stacks:
            gradients = [p.grad[where] for _, p, where in stack.pieces if p.grad is not None]
            if not gradients:
                continue
            gradient = torch.stack(gradients)
            if gradient_scale != 1:
                gradient *= gradient_scale
            updates = stack.updates(gradient, momentum, int(self.num_updates))
            matrices = [p[where] for _, p, where in stack.pieces]
            if self.weight_decay:
                torch._foreach_mul_(matrices, 1 - learning_rate * self.weight_decay)
            torch._foreach_add_(matrices, updates.unbind(), alpha=-learning_rate * stack.scale)


def build(module: nn.Module, settings: TrainingSettings) -> Optimizer:
    """Muon over the matrices inside layers (their names have a number), AdamW without decay over all else."""
    parameters = trainable(module)
    inner = {
        n: p for n, p in parameters.items() if p.ndim == 2 and any(part.isdigit() for part in n.split("."))
    }
    others = {name: p for name, p in parameters.items() if name not in inner}
    parts = {
        f"{n}.weight": list(m.parts.values()) for n, m in module.named_modules() if isinstance(m, Projection)
    }
    rules: dict[str, UpdateRule] = {}
    if inner:
        rate, decay = settings.matrix_learning_rate, settings.weight_decay
        rules["matrices"] = Muon(inner, learning_rate=rate, weight_decay=decay, parts=parts)
    if others:
        rates = {"learning_rate": settings.learning_rate, "beta1": settings.beta1, "beta2": settings.beta2}
        rules["others"] = AdamW(others, weight_decay=0.0, eps=1e-10, **rates)
    return Optimizer(rules)


OPTIMIZER = build
