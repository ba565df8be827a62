"""Optimizers: a few update rules, each with its own parameters; the files of `optimizers` build them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from seedbed.base.errors import CheckpointError, UsageError
from seedbed.base.plugins import PluginPackage
from seedbed.training.settings import TrainingSettings

Parameters = Mapping[str, nn.Parameter]


class UpdateRule(Protocol):
    """Updates its parameters from their gradients; `state` has all of its tensors by name."""

    state: dict[str, Tensor]

    def step(self, factor: float, gradient_scale: float) -> None:
        """Update with `factor` times the learning rate from the gradients times `gradient_scale`."""


class Optimizer:
    """Update rules by name."""

    def __init__(self, rules: Mapping[str, UpdateRule]) -> None:
        self.rules = rules

    @torch.no_grad()
    def step(self, factor: float, *, gradient_scale: float = 1.0) -> None:
        """Update every parameter that has a gradient; `gradient_scale` applies clipping without a pass."""
        for rule in self.rules.values():
            rule.step(factor, gradient_scale)

    def state(self) -> dict[str, Tensor]:
        """The state of all rules by `rule/name`: the tensors themselves, not copies."""
        return {
            f"{label}/{name}": tensor
            for label, rule in self.rules.items()
            for name, tensor in rule.state.items()
        }


OPTIMIZERS: PluginPackage[Callable[[nn.Module, TrainingSettings], Optimizer]] = PluginPackage(
    "seedbed.training.optimizers", "OPTIMIZER"
)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, a tied one once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def require_trainable(module: nn.Module) -> Parameters:
    """The parameters that train; UsageError if there are none."""
    parameters = trainable(module)
    if not parameters:
        raise UsageError(
            "nothing trains: requires_grad is False for every parameter of the network; leave some of them "
            "trainable"
        )
    return parameters


def decay_groups(module: nn.Module, weight_decay: float) -> dict[str, tuple[dict[str, nn.Parameter], float]]:
    """The parameters that train and their decay, by group: matrices (embeddings too), and vectors without."""
    parameters = trainable(module)
    groups = {
        "matrices": ({n: p for n, p in parameters.items() if p.ndim >= 2}, weight_decay),
        "vectors": ({n: p for n, p in parameters.items() if p.ndim < 2}, 0.0),
    }
    return {name: group for name, group in groups.items() if group[0]}


class ParameterBlock(NamedTuple):
    """Rows of a parameter that are a matrix of their own, or all of it; `step_scale` scales its steps."""

    name: str
    parameter: nn.Parameter
    rows: slice
    step_scale: float


def parameter_blocks_of(module: nn.Module, parameters: Parameters) -> list[ParameterBlock]:
    """The parameters of a module as the blocks that their modules define (nn/linear.py), else each as one."""
    defined: dict[str, list[tuple[int, float]]] = {}
    for path, owner in module.named_modules():
        if (blocks := getattr(owner, "parameter_blocks", None)) is not None:
            defined |= {f"{path}.{name}": own for name, own in blocks().items()}
    found = []
    for name, parameter in parameters.items():
        start = 0
        for num_rows, step_scale in defined.get(name, [(len(parameter), 1.0)]):
            rows = slice(start, start + num_rows)
            found.append(ParameterBlock(f"{name}.{start}", parameter, rows, step_scale))
            start += num_rows
    return found


@torch.no_grad()
def fill(tensors: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str) -> None:
    """Copy saved tensors into those of the same names; CheckpointError for other names or shapes."""
    for name in sorted(tensors.keys() | saved.keys()):
        ours, theirs = tensors.get(name), saved.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            now, then = ("none" if t is None else str(tuple(t.shape)) for t in (ours, theirs))
            raise CheckpointError(
                f"the checkpoint's {what} do not match: {name} is {then} there and {now} here; resume with "
                "the model and the optimizer that wrote it, or start a new run in another folder"
            )
        ours.copy_(theirs)
