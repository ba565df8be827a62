"""Adafactor (Shazeer and Stern 1804.04235), T5's optimizer: steps in proportion to the parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from seedbed.training.optimizer import Optimizer, ParameterBlock, decay_groups, parameter_blocks_of
from seedbed.training.settings import TrainingSettings

# Algorithm 4: epsilon 1 and 2, the clipping threshold, the exponent of the decay.
SQUARE_EPS, SCALE_EPS, CLIPPING, DECAY_POWER = 1e-30, 1e-3, 1.0, -0.8


class MeanSquares:
    """Running means of the squared gradients of a block; of a matrix, only of its rows and columns."""

    def __init__(self, block: ParameterBlock) -> None:
        like = block.parameter.detach()[block.rows]
        self.means: dict[str, Tensor] = {"square": torch.zeros_like(like)}
        if like.ndim == 2:
            self.means = {"row": torch.zeros_like(like[:, 0]), "column": torch.zeros_like(like[0])}

    def scale(self, gradient: Tensor, decay: float) -> None:
        """Update the means, and divide the gradient by their root, in place (algorithms 4 and 5)."""
        if gradient.ndim != 2:
            square = gradient.square().add_(SQUARE_EPS)
            gradient.mul_(self.means["square"].lerp_(square, 1 - decay).rsqrt())
            return
        # By norms: the squares of an embedding would be a matrix as large as itself.
        row, column = (
            self.means[name].lerp_(_norm(gradient, axis).square() / size + SQUARE_EPS, 1 - decay)
            for name, axis, size in zip(("row", "column"), (1, 0), gradient.shape[::-1], strict=True)
        )
        gradient.mul_((row / row.mean()).rsqrt()[:, None]).mul_(column.rsqrt())


class Adafactor:
    """The rule: a step has the size of the learning rate times the root mean square of the parameter.

    One rate is therefore right for weights of any size: T5's embeddings, with a standard deviation of 1, and
    its queries, which include attention's scale, differ by a factor of 180 at a width of 512. No momentum.
    """

    def __init__(
        self, blocks: Iterable[ParameterBlock], *, learning_rate: float, weight_decay: float = 0.0
    ) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.num_updates = torch.zeros((), dtype=torch.int64)
        self.blocks = [(block, MeanSquares(block)) for block in blocks]
        self.state = {"num_updates": self.num_updates}
        for block, squares in self.blocks:
            self.state |= {f"{block.name}.{kind}": mean for kind, mean in squares.means.items()}

    def step(self, factor: float, gradient_scale: float) -> None:
        """Update the parameters that have a gradient, which is overwritten."""
        self.num_updates += 1
        decay = 1 - int(self.num_updates) ** DECAY_POWER
        for block, squares in self.blocks:
            if block.parameter.grad is None:
                continue
            weight, update = block.parameter[block.rows], block.parameter.grad[block.rows]
            squares.scale(update.mul_(gradient_scale), decay)
            rate = self.learning_rate * factor * _root_mean_square(weight).clamp(min=SCALE_EPS)
            clipped = (_root_mean_square(update) / CLIPPING).clamp(min=1)
            if self.weight_decay:
                weight.mul_(1 - rate * self.weight_decay)
            weight.sub_(update.mul_(rate / clipped))


def _root_mean_square(x: Tensor) -> Tensor:
    return _norm(x) / math.sqrt(x.numel())


def _norm(x: Tensor, axis: int | None = None) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=axis)
    return norm


def build(module: nn.Module, settings: TrainingSettings) -> Optimizer:
    """The rule for all parameters; decay, as in AdamW, on matrices alone."""
    rate, groups = settings.learning_rate, decay_groups(module, settings.weight_decay)
    return Optimizer(
        {
            name: Adafactor(parameter_blocks_of(module, some), learning_rate=rate, weight_decay=decay)
            for name, (some, decay) in groups.items()
        }
    )


OPTIMIZER = build
