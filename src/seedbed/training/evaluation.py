"""The loss on held-out records, the same measure that training minimizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from seedbed.base.runtime import Runtime
from seedbed.data.batch import collate
from seedbed.data.loader import one_pass
from seedbed.data.objective import Objective
from seedbed.data.records import Source
from seedbed.training.train_step import TrainStep


class Validation(NamedTuple):
    """Held-out records, what is measured on them, and the bytes of their text where there is one."""

    source: Source
    objective: Objective
    num_bytes: int | None = None


@torch.no_grad()
def evaluate(
    compute: TrainStep,
    validation: Validation,
    *,
    batch_tokens: int,
    seed: int,
    runtime: Runtime,
    stop_asked: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """One pass over the records, dealt to the ranks in turn -> loss (nats), num_targets, bits_per_byte.

    None where `stop_asked`, on which all ranks agree, broke it off. The module is left in evaluation mode.
    """
    compute.eval()
    nats, num_targets = 0.0, 0
    groups = one_pass(validation.source, validation.objective, batch_tokens=batch_tokens, seed=seed)
    for i, examples in enumerate(groups):
        if i % runtime.world_size == runtime.rank:
            with runtime.autocast():
                loss_sum, count = compute(collate(examples).to(runtime.device))
            nats, num_targets = nats + loss_sum.item(), num_targets + count
        if i % runtime.world_size == runtime.world_size - 1 and stop_asked():
            return None
    nats, total = runtime.sum_over_ranks([nats, num_targets])
    bits = nats / math.log(2) / validation.num_bytes if validation.num_bytes else None
    return {"loss": nats / total, "bits_per_byte": bits, "num_targets": int(total)}
