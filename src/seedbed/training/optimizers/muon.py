"""Muon for the layers' matrices (Jordan et al. 2024), AdamW for embeddings, output, vectors and scalars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from seedbed.nn.linear import Projection
from seedbed.training.optimizer import Optimizer, Parameters, UpdateRule, trainable
from seedbed.training.optimizers.adamw import AdamW
from seedbed.training.settings import TrainingSettings

# The first three polynomials of Polar Express (Amsel et al. 2505.16932, algorithm 1): x -> a x + b x^3 + c
# x^5.
POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices (stack, rows, columns) with their singular values moved towards 1, the vectors kept."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) * 1.02 + 1e-7)
    for a, b, c in POLYNOMIALS:
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalized; the matrices of one shape are one stack, a few calls for all of them.

    `parts` has for a parameter the rows of each matrix in it (q, k, v), which are orthogonalized apart. An
    update has singular values of about 1, times sqrt(rows / columns) where there are more rows, so that one
    learning rate serves every shape. The momentum rises from 0.85 to 0.95 over 300 updates.
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
        self.state = {"num_updates": self.num_updates}
        pieces: dict[torch.Size, list[tuple[str, nn.Parameter, slice]]] = {}
        for name, parameter in parameters.items():
            start = 0
            for rows in (parts or {}).get(name, [len(parameter)]):
                where = slice(start, start + rows)
                pieces.setdefault(parameter[where].shape, []).append((f"{name}.{start}", parameter, where))
                start += rows
        self.stacks: list[tuple[list[tuple[nn.Parameter, slice]], Tensor]] = []
        for shape, members in pieces.items():
            memory = members[0][1].detach().new_zeros(len(members), *shape)
            for (name, _, _), row in zip(members, memory, strict=True):
                self.state[f"{name}.momentum"] = row
            self.stacks.append(([(parameter, where) for _, parameter, where in members], memory))

    def step(self, factor: float, gradient_scale: float) -> None:
        """Update every matrix that has a gradient; all of a stack have one or none has."""
        momentum = 0.85 + 0.1 * min(1.0, int(self.num_updates) / 300)
        self.num_updates += 1
        learning_rate = self.learning_rate * factor
        for members, memory in self.stacks:
            gradients = [p.grad[where] for p, where in members if p.grad is not None]
            if not gradients:
                continue
            gradient = torch.stack(gradients)  # (stack, rows, columns)
            if gradient_scale != 1:
                gradient *= gradient_scale
            memory.lerp_(gradient, 1 - momentum)
            updates = orthogonalize(gradient.lerp_(memory, momentum))  # Nesterov
            rows, columns = updates.shape[1:]
            matrices = [p[where] for p, where in members]
            if self.weight_decay:
                torch._foreach_mul_(matrices, 1 - learning_rate * self.weight_decay)
            torch._foreach_add_(
                matrices, updates.unbind(), alpha=-learning_rate * max(1.0, rows / columns) ** 0.5
            )


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
