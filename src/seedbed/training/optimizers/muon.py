"""Muon (Jordan et al. 2024) with NorMuon's normalization for the layers' matrices; AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from seedbed.training.optimizer import (
    Optimizer,
    ParameterBlock,
    Parameters,
    UpdateRule,
    parameter_blocks_of,
    trainable,
)
from seedbed.training.optimizers.adamw import AdamW
from seedbed.training.settings import TrainingSettings

# The first three polynomials a x + b x^3 + c x^5 of Polar Express (Amsel et al. 2505.16932, algorithm 1).
POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)
BETA2 = 0.95  # of the neurons' mean squares
STACK_NUMBERS = 2**22  # at most, unless one matrix has more: an update takes several times the memory


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices (stack, rows, columns) with singular values near 1 and the same singular vectors."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) * 1.02 + 1e-7)
    for a, b, c in POLYNOMIALS:
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Stack:
    """Matrices of one shape (rows, columns), and their optimizer state."""

    def __init__(self, blocks: Sequence[ParameterBlock], shape: torch.Size) -> None:
        self.blocks = blocks
        rows, columns = shape
        # NorMuon normalizes neurons: the rows, or the columns if there are more of them.
        self.axis = -1 if rows >= columns else -2
        shape_scale = max(1.0, rows / columns) ** 0.5
        self.scales = [shape_scale * block.step_scale for block in blocks]
        self.momentum = blocks[0].parameter.detach().new_zeros(len(blocks), rows, columns)
        self.power = torch.zeros_like(self.momentum.sum(self.axis, keepdim=True))

    def updates(self, gradient: Tensor, momentum: float, num_updates: int, dtype: torch.dtype) -> Tensor:
        """The direction of the step for gradients (stack, rows, columns), which are overwritten."""
        self.momentum.lerp_(gradient, 1 - momentum)
        gradient.lerp_(self.momentum, momentum)  # Nesterov
        x = orthogonalize(gradient.to(dtype)).to(gradient.dtype)
        size = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
        self.power.lerp_(x.square().mean(self.axis, keepdim=True), 1 - BETA2)
        x *= (self.power / (1 - BETA2**num_updates) + 1e-8).rsqrt()
        x *= size / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
        return x


class Muon:
    """Orthogonalized momentum with normalized neurons; a few calls for all matrices of one shape.

    The blocks (q, k, v of one parameter) are orthogonalized separately. An update has singular values near 1,
    times sqrt(rows / columns) if there are more rows, so one learning rate is right for every shape; then
    each neuron is divided by its root mean square and the norm restored (NorMuon, Li et al. 2510.05491); the
    scale of the block comes last. The momentum rises from 0.85 to 0.95 over 300 updates. The matmuls of the
    orthogonalization are in `dtype`: bfloat16 is as good (Jordan) and 2.5 times as fast if the CPU supports
    it (12 matrices of 256 x 1024 in 36 ms, 93 in float32; 2026-11-27).
    """

    def __init__(
        self,
        blocks: Iterable[ParameterBlock],
        *,
        learning_rate: float,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.learning_rate, self.weight_decay, self.dtype = learning_rate, weight_decay, dtype
        self.num_updates = torch.zeros((), dtype=torch.int64)
        by_shape: dict[torch.Size, list[ParameterBlock]] = {}
        for block in blocks:
            by_shape.setdefault(block.parameter[block.rows].shape, []).append(block)
        self.stacks: list[Stack] = []
        for shape, same in by_shape.items():
            most = max(1, STACK_NUMBERS // shape.numel())
            self.stacks += [Stack(same[at : at + most], shape) for at in range(0, len(same), most)]
        self.state = {"num_updates": self.num_updates}
        for stack in self.stacks:
            for block, momentum, power in zip(stack.blocks, stack.momentum, stack.power, strict=True):
                self.state |= {f"{block.name}.momentum": momentum, f"{block.name}.power": power}

    def step(self, factor: float, gradient_scale: float) -> None:
        """Update every matrix; all matrices of a stack have a gradient, or none."""
        momentum = 0.85 + 0.1 * min(1.0, int(self.num_updates) / 300)
        self.num_updates += 1
        learning_rate = self.learning_rate * factor
        for stack in self.stacks:
            gradients = [p.grad[where] for _, p, where, _ in stack.blocks if p.grad is not None]
            if not gradients:
                continue
            gradient = torch.stack(gradients)
            if gradient_scale != 1:
                gradient *= gradient_scale
            updates = stack.updates(gradient, momentum, int(self.num_updates), self.dtype)
            matrices = [p[where] for _, p, where, _ in stack.blocks]
            if self.weight_decay:
                torch._foreach_mul_(matrices, 1 - learning_rate * self.weight_decay)
            steps = torch._foreach_mul(updates.unbind(), [-learning_rate * scale for scale in stack.scales])
            torch._foreach_add_(matrices, steps)


def build(module: nn.Module, settings: TrainingSettings) -> Optimizer:
    """Muon for the matrices inside layers (their names have a number), AdamW without decay for the rest."""
    parameters = trainable(module)
    inner = {
        n: p for n, p in parameters.items() if p.ndim == 2 and any(part.isdigit() for part in n.split("."))
    }
    others = {name: p for name, p in parameters.items() if name not in inner}
    rules: dict[str, UpdateRule] = {}
    if inner:
        rules["matrices"] = Muon(
            parameter_blocks_of(module, inner),
            learning_rate=settings.matrix_learning_rate,
            weight_decay=settings.weight_decay,
            dtype=torch.bfloat16 if settings.precision == "bfloat16" else torch.float32,
        )
    for scale, some in _by_scale(module, others).items():
        rules["others" if scale == 1 else f"others times {scale:g}"] = AdamW(
            some,
            learning_rate=scale * settings.learning_rate,
            beta1=settings.beta1,
            beta2=settings.beta2,
            weight_decay=0.0,
            eps=1e-10,
        )
    return Optimizer(rules)


def _by_scale(module: nn.Module, parameters: Parameters) -> dict[float, dict[str, nn.Parameter]]:
    """Parameters grouped by the scale of their steps; one of several blocks has the smallest scale."""
    scales: dict[int, float] = {}
    for block in parameter_blocks_of(module, parameters):
        scales[id(block.parameter)] = min(block.step_scale, scales.get(id(block.parameter), math.inf))
    found: dict[float, dict[str, nn.Parameter]] = {}
    for name, parameter in parameters.items():
        found.setdefault(scales[id(parameter)], {})[name] = parameter
    return found


OPTIMIZER = build
