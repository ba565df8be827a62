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

    Of labels also their accuracy. None where `stop_asked`, on which all ranks agree, broke it off. The
    module is left in evaluation mode.
    """
    compute.eval()
    nats, num_targets, num_right = 0.0, 0, 0
    has_labels = validation.objective.head_kind is not None
    groups = one_pass(validation.source, validation.objective, batch_tokens=batch_tokens, seed=seed)
    for i, examples in enumerate(groups):
        if i % runtime.world_size == runtime.rank:
            batch = collate(examples).to(runtime.device)
            with runtime.autocast():
                if has_labels:
                    loss_sum, right = validation.objective.measure(compute.module, batch)
                    num_right += right
                else:
                    loss_sum, _ = compute(batch)
            nats, num_targets = nats + loss_sum.item(), num_targets + batch.num_targets
        if i % runtime.world_size == runtime.world_size - 1 and stop_asked():
            return None
    nats, total, right_of_all = runtime.sum_over_ranks([nats, num_targets, num_right])
    bits = nats / math.log(2) / validation.num_bytes if validation.num_bytes else None
    measured = {"loss": nats / total, "bits_per_byte": bits, "num_targets": int(total)}
    return measured | ({"accuracy": right_of_all / total} if has_labels else {})
