"""What one process computes of a step: the module that is wrapped, whether compiled or data-parallel."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seedbed.base.rooms import Room
from seedbed.base.runtime import Runtime
from seedbed.data.batch import Batch, Example
from seedbed.data.records import Record
from seedbed.training.settings import TrainingSettings


class Objective(Protocol):
    """What is learnt; a file of `seedbed.objectives`, whose fields are the keys of `[objective]` beside its
    name."""

    name: str

    def example(self, record: Record, seed: int) -> Example:
        """The row that is learnt from a record; depends on (seed, record) alone."""

    def loss_sum(self, module: Any, batch: Batch) -> Tensor:
        """The loss summed over the batch's targets, a scalar."""


OBJECTIVES: Room[type[Objective]] = Room("seedbed.objectives", "OBJECTIVE")


class TrainStep(nn.Module):
    """A module and its objective as one: batch -> (loss_sum, num_targets)."""

    def __init__(self, module: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.module, self.objective = module, objective

    def forward(self, batch: Batch) -> tuple[Tensor, int]:
        """The batch's summed loss, a scalar, and the number of its targets."""
        return self.objective.loss_sum(self.module, batch), batch.num_targets


def wrap(step: TrainStep, settings: TrainingSettings, *, runtime: Runtime) -> nn.Module:
    """The step as the settings and the ranks want it; the parameters stay those of the module inside."""
    if settings.compile:
        step.compile()
    if runtime.world_size == 1:
        return step
    devices = [runtime.device] if runtime.device.type == "cuda" else None
    return DistributedDataParallel(
        step, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )
