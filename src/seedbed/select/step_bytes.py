"""The bytes of a training step, from an outline: the whole network on the meta device, without memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from seedbed.base.runtime import Runtime
from seedbed.data.objective import Objective
from seedbed.models.family import Network
from seedbed.select.heap import UntouchedHeap
from seedbed.select.layers import LayerSample, all_levels, only_layers, sample_layers
from seedbed.select.ledger import StorageLedger
from seedbed.select.outline import AsOnCPU, compiler_unloaded
from seedbed.select.rehearsal import Rehearsal
from seedbed.select.result import Parts, StepBytes
from seedbed.select.samples import SampledBatches
from seedbed.training.gradients import require_gradient
from seedbed.training.optimizer import trainable
from seedbed.training.resume import weights_of
from seedbed.training.settings import TrainingSettings

# A network deeper than both is outlined at two depths; with fewer the peak may be at another moment.
DEPTHS = (16, 24)
# What glibc's heap loses between a step's transient tensors, as a share of them, if it is unknown; and what
# real steps touch beside the pages of outlined ones (1.00 to 1.18 of them, 8 bases, 2026-11-28).
HEAP_SLACK, TOUCHED_SHARE = 0.2, 1.05


def step_bytes(
    outline: Network,
    *,
    training: TrainingSettings,
    sampled: SampledBatches,
    objective: Objective,
    precision: str,
    heap: UntouchedHeap | None = None,
    depths: tuple[int, int] = DEPTHS,
) -> StepBytes:
    """Bytes at the peak of a step, on the largest batch, of a network on the meta device.

    The heap's loss is that of `heap` after a second step, or a share.
    """
    batch, repeat = sampled.batches(sampled.max_tokens)[0], sampled.num_micro_batches > 1
    rehearsal = Rehearsal(outline, training, [batch], Runtime(torch.device("meta"), precision), objective)
    depth, chosen = len(all_levels(outline).levels), all_levels(outline)
    if depth > sum(depths) and len(sample_layers(outline).tries) == 2:  # many layers of one kind
        less, more = (tuple(range(each)) for each in depths)
        chosen = LayerSample(more, (less, more), added=(len(more) - len(less),), others=(depth - len(less),))
    tries = []
    if len(chosen.tries) > 1:
        heap = None
    for levels in chosen.tries:
        with only_layers(outline, levels):
            tries.append(_moments(rehearsal, repeat=repeat, heap=heap))
    names = dict.fromkeys(part for moments in tries for moment in moments for part in moment)
    moments = [
        {name: int(chosen.extrapolate([moment.get(name, 0) for moment in each])) for name in names}
        for each in zip(*tries, strict=True)
    ]
    largest = max(moments, key=lambda moment: sum(moment.values()))
    parts = {part: size for part, size in largest.items() if size}
    if heap is None or heap.is_exceeded:
        transient = sum(size for part, size in parts.items() if part not in ("weights", "optimizer"))
        return StepBytes(parts=parts, heap_bytes=int(HEAP_SLACK * transient))
    lost_bytes = int(TOUCHED_SHARE * heap.touched_bytes) - sum(parts.values())
    return StepBytes(parts=parts, heap_bytes=max(0, lost_bytes))


def _moments(rehearsal: Rehearsal, *, repeat: bool, heap: UntouchedHeap | None) -> list[Parts]:
    """Bytes by part at the peaks of learning and updating on the meta device; two steps in a heap.

    To `repeat` is to learn the batch twice, as in a step of several micro-batches.
    """
    batch, module = rehearsal.batches[0], rehearsal.module
    names, training = trainable(module), rehearsal.training
    moments: list[Parts] = []
    as_on_cpu = AsOnCPU(training.precision)
    # torch keeps what the compiler makes of checkpointed activations, for a compiled training too.
    is_compiled = training.compile and training.checkpoint_activations
    loads = nullcontext() if is_compiled else compiler_unloaded()
    with loads, as_on_cpu, StorageLedger("temporary", heap) as ledger:
        ledger.record(weights_of(module).values(), "weights")
        ledger.record(batch.tensors, "temporary")
        with ledger.recording("optimizer"):
            optimizer = rehearsal.new_optimizer()
        if heap is not None:
            heap.begin()
        with logits_recorded(module, ledger):
            ledger.begin_peak()
            for _ in range(2 if repeat else 1):
                with ledger.recording("activations"):
                    loss: Tensor = rehearsal.compute(batch)[0]
                as_on_cpu.casts.clear()
                require_gradient(loss, names)
                as_on_cpu.backward(loss)
                del loss
                ledger.move(rehearsal.gradients(), "gradients")
            moments.append(ledger.parts_at_peak())
        ledger.begin_peak()
        torch._foreach_norm(rehearsal.gradients())
        optimizer.step(1e-6, gradient_scale=0.5)
        moments.append(ledger.parts_at_peak())
        module.zero_grad()
        if heap is not None:
            heap.repeat()
    return moments


@contextmanager
def logits_recorded(module: Network, ledger: StorageLedger) -> Iterator[None]:
    """Record the module's logits under a part of their own."""
    output = module.output

    def recorded(hidden: Tensor) -> Tensor:
        with ledger.recording("logits"):
            return output(hidden)

    object.__setattr__(module, "output", recorded)
    try:
        yield
    finally:
        object.__delattr__(module, "output")
