"""AdamW (Loshchilov and Hutter 1711.05101), fused, its decay on matrices alone."""

from __future__ import annotations

import torch
from torch import nn

from seedbed.training.optimizer import Optimizer, Parameters, decay_groups
from seedbed.training.settings import TrainingSettings


class AdamW:
    """The rule; a step shrinks the parameters by the learning rate times `weight_decay`.

    It calls torch's fused kernel directly: `torch.optim.AdamW` loads the compiler, which takes a second.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        learning_rate: float,
        beta1: float,
        beta2: float,
        weight_decay: float,
        eps: float = 1e-8,
    ) -> None:
        self.parameters = list(parameters.values())
        self.learning_rate, self.beta1, self.beta2 = learning_rate, beta1, beta2
        self.weight_decay, self.eps = weight_decay, eps
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.num_updates = torch.zeros((), device=self.parameters[0].device)
        self.state = {"num_updates": self.num_updates}
        for name, mean, square in zip(parameters, self.means, self.squares, strict=True):
            self.state |= {f"{name}.mean": mean, f"{name}.square": square}

    def step(self, factor: float, gradient_scale: float) -> None:
        """Update the parameters that have a gradient."""
        slots = zip(self.parameters, self.means, self.squares, strict=True)
        live = [(p, p.grad, mean, square) for p, mean, square in slots if p.grad is not None]
        self.num_updates += 1
        if not live:
            return
        parameters, gradients, means, squares = map(list, zip(*live, strict=True))
        divisor = None if gradient_scale == 1 else torch.full_like(self.num_updates, 1 / gradient_scale)
        torch._fused_adamw_(
            parameters,
            gradients,
            means,
            squares,
            [],
            [self.num_updates] * len(live),
            lr=self.learning_rate * factor,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            grad_scale=divisor,
        )


def build(module: nn.Module, settings: TrainingSettings) -> Optimizer:
    """Matrices (embeddings too) with decay, vectors (biases, norms) without."""
    rates = {"learning_rate": settings.learning_rate, "beta1": settings.beta1, "beta2": settings.beta2}
    groups = decay_groups(module, settings.weight_decay).items()
    return Optimizer({name: AdamW(some, weight_decay=decay, **rates) for name, (some, decay) in groups})


OPTIMIZER = build
