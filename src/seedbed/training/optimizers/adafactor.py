"""Adafactor (Shazeer and Stern 1804.04235), T5's optimizer: steps in proportion to what they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from seedbed.training.optimizer import Optimizer, Parameters, Part, matrix_parts, trainable
from seedbed.training.settings import TrainingSettings

# Algorithm 4: what is added to squares, the least size of a step, the clipping threshold, the decay's power.
SQUARE_FLOOR, LEAST_SIZE, CLIPPING, DECAY_POWER = 1e-30, 1e-3, 1.0, -0.8


class Piece:
    """One matrix (rows, columns), or a tensor of another shape, and the means of its gradient's squares.

    A matrix keeps the mean of every row and column in place of every number's.
    """

    def __init__(self, name: str, parameter: nn.Parameter, rows: slice) -> None:
        self.name, self.parameter, self.rows = name, parameter, rows
        like = parameter.detach()[rows]
        self.squares: dict[str, Tensor] = {"square": torch.zeros_like(like)}
        if like.ndim == 2:
            self.squares = {"row": torch.zeros_like(like[:, 0]), "column": torch.zeros_like(like[0])}

    def scaled(self, gradient: Tensor, decay: float) -> Tensor:
        """The gradient over the root of its mean square, which takes it in (algorithms 4 and 5)."""
        square = gradient.square().add_(SQUARE_FLOOR)
        if gradient.ndim != 2:
            return gradient * self.squares["square"].lerp_(square, 1 - decay).rsqrt()
        row = self.squares["row"].lerp_(square.mean(1), 1 - decay)
        column = self.squares["column"].lerp_(square.mean(0), 1 - decay)
        return gradient * (row / row.mean()).rsqrt()[:, None] * column.rsqrt()


class Adafactor:
    """The rule over some parameters: a step is learning rate times the root mean square of what it changes.

    So one rate serves numbers of any size: T5's table of embeddings, drawn with a deviation of 1, and its
    queries, which hold attention's scale, differ by a factor of 180 at a width of 512. `parts` has for a
    parameter the matrices in it (q, k, v), each with a size of its own. There is no momentum.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        learning_rate: float,
        weight_decay: float = 0.0,
        parts: Mapping[str, Sequence[Part]] | None = None,
    ) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.num_updates = torch.zeros((), dtype=torch.int64)
        self.pieces: list[Piece] = []
        for name, parameter in parameters.items():
            start = 0
            for part in (parts or {}).get(name, [Part(len(parameter))]):
                where = slice(start, start + part.num_rows)
                self.pieces.append(Piece(f"{name}.{start}", parameter, where))
                start += part.num_rows
        self.state = {"num_updates": self.num_updates}
        for piece in self.pieces:
            self.state |= {f"{piece.name}.{kind}": mean for kind, mean in piece.squares.items()}

    def step(self, factor: float, gradient_scale: float) -> None:
        """Update the parameters that have a gradient."""
        self.num_updates += 1
        decay = 1 - int(self.num_updates) ** DECAY_POWER
        for piece in self.pieces:
            if piece.parameter.grad is None:
                continue
            weight = piece.parameter[piece.rows]
            update = piece.scaled(piece.parameter.grad[piece.rows] * gradient_scale, decay)
            rate = self.learning_rate * factor * _root_mean_square(weight).clamp(min=LEAST_SIZE)
            clipped = (_root_mean_square(update) / CLIPPING).clamp(min=1)
            if self.weight_decay:
                weight.mul_(1 - rate * self.weight_decay)
            weight.sub_(update.mul_(rate / clipped))


def _root_mean_square(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def build(module: nn.Module, settings: TrainingSettings) -> Optimizer:
    """The rule over all parameters; decay, as in AdamW, on matrices alone."""
    parameters, parts = trainable(module), matrix_parts(module)
    groups = {
        "matrices": ({n: p for n, p in parameters.items() if p.ndim >= 2}, settings.weight_decay),
        "vectors": ({n: p for n, p in parameters.items() if p.ndim < 2}, 0.0),
    }
    rate = settings.learning_rate
    return Optimizer(
        {
            name: Adafactor(some, learning_rate=rate, weight_decay=decay, parts=parts)
            for name, (some, decay) in groups.items()
            if some
        }
    )


OPTIMIZER = build
