"""The seconds of a training step, by a rehearsal: real steps on real batches.

They run the whole network if that is quick, else a few of its layers on fewer tokens, and where one layer is
too large, narrower ones; every layer of a kind costs the same, so does every token, and time grows with the
FLOPs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from seedbed.base.hardware import ResidentPeak, matmul_speed, seconds_per_call
from seedbed.base.runtime import Runtime
from seedbed.data.batch import Batch
from seedbed.data.loader import MixturePart
from seedbed.data.objective import Objective
from seedbed.models.family import Config, Network
from seedbed.select.compute import forward_flops, training_flops
from seedbed.select.layers import (
    LayerSample,
    all_levels,
    narrower,
    only_layers,
    outline_of,
    sample_layers,
    stand_in,
)
from seedbed.select.result import StepTimes
from seedbed.select.samples import SampledBatches
from seedbed.training.loop import TrainStep
from seedbed.training.optimizer import OPTIMIZERS, Optimizer, require_trainable, trainable
from seedbed.training.settings import TrainingSettings

# Of the timing, all in all; a step that would take longer than its share is not rehearsed whole.
MOST_SECONDS = 5.0
# Of a matmul's speed now, a step's usual share; a warm-up and two rounds learn and read in `MOST_SECONDS`.
USUAL_SHARE, NUM_ROUNDS = 0.4, 4
PART_FLOPS = 5e10  # at most, of a part of a network
MIN_TOKENS = 256
# Of the weights, gradients, moments and logits of real steps, and the vocabulary of a network cut to that.
MAX_BYTES, FEW_TOKENS = 400 * 2**20, 8192
TIMING_SECONDS, MIN_ROUNDS = 1.5, 5
# With fewer rounds the timing ends after these shares of its seconds.
ENOUGH = ((2, 0.4), (1, 1.0))
# By how much times may be less and more, by what ran: the whole network, a few layers, narrower ones
# (docs/LOG.md, 2026-11-28).
WHOLE_ERROR, LAYERS_ERROR, NARROW_ERROR = (0.1, 0.25), (0.2, 0.35), (0.4, 0.4)
# Memory of a process beside its tensors, if it cannot be measured: loaded kernels, libraries' workspaces.
LIBRARY_BYTES = 60 * 2**20


def step_times(
    network: Network,
    training: TrainingSettings,
    *,
    mixture: Sequence[MixturePart],
    runtime: Runtime,
    resident: ResidentPeak | None = None,
    sampled: SampledBatches | None = None,
    seconds: float = MOST_SECONDS,
) -> StepTimes:
    """Time training steps of a copy of the network on a mixture whose parts have one kind of loss.

    Times are medians of calls spread over a quarter of `seconds`, so that other processes slow it as they
    will slow the training. `resident` measures the process's memory.
    """
    require_trainable(network)
    sampled = sampled or SampledBatches(mixture, training, runtime)
    outline = outline_of(network)
    speed = USUAL_SHARE * matmul_speed(runtime.device)
    sketch, chosen, num_tokens = _affordable(outline, training, sampled, speed * seconds / NUM_ROUNDS)
    is_whole = chosen == all_levels(outline) and sketch is outline
    batches = [_within(batch, sketch.config) for batch in sampled.batches(num_tokens)]
    if resident is not None:
        resident.lap()
    copy = stand_in(network if sketch is outline else sketch, chosen.levels, runtime)
    rehearsal = Rehearsal(copy, training, batches, runtime, mixture[0].objective)
    if is_whole and sampled.num_micro_batches > 1:
        rehearsal.learn(batches[0])  # its gradients exist while the next micro-batch is learned
    learning, reading, update, quick, slow = _seconds(rehearsal, seconds)
    each: dict[str, Any] = {"row_tokens": training.context_tokens, "shares": sampled.shares}
    to_learn, to_read = (
        count(outline, **each) / count(copy, **each)
        for count in (partial(training_flops, num_tokens=1), _reading_flops)
    )
    update *= _num_trained(outline) / _num_trained(copy)
    peak = 0 if resident is None else resident.peak()
    del rehearsal, copy
    gc.collect()
    library_bytes = 0 if resident is None else max(0, resident.lap())
    is_measured = resident is not None and resident.is_exact
    has_heap = is_measured and is_whole and runtime.device.type == "cpu"
    return StepTimes(
        learning=learning * to_learn,
        reading=reading * to_read,
        update=update,
        sampling=sampled.seconds,
        step_tokens=sampled.step_tokens,
        shares=sampled.shares,
        quick=quick,
        slow=slow,
        error=WHOLE_ERROR if is_whole else LAYERS_ERROR if sketch is outline else NARROW_ERROR,
        seconds=seconds,
        library_bytes=library_bytes if is_measured else LIBRARY_BYTES,
        used_bytes=max(0, peak - library_bytes) if has_heap else None,
    )


def _reading_flops(network: Network, **each: Any) -> float:
    return sum(forward_flops(network, **each).values())


def _num_trained(network: Network) -> int:
    return sum(parameter.numel() for parameter in trainable(network).values())


def _affordable(
    network: Network, training: TrainingSettings, sampled: SampledBatches, most_flops: float
) -> tuple[Network, LayerSample, int]:
    """The network to rehearse, or a narrower one, its layers, and the tokens per batch."""
    part_flops = min(PART_FLOPS, most_flops)
    num_tokens = sampled.max_tokens
    row_tokens = min(training.context_tokens, num_tokens)
    chosen = all_levels(network)

    def fits(sketch: Network, tokens: int) -> bool:
        logits = 8 * sampled.shares.targets * tokens * sketch.config.vocab_size
        frozen = sum(p.numel() for p in sketch.parameters() if not p.requires_grad)
        return 16 * _num_trained(sketch) + 4 * frozen + logits <= MAX_BYTES

    flops = partial(training_flops, num_tokens=1, row_tokens=row_tokens)
    if num_tokens * flops(network) <= most_flops and fits(network, num_tokens):
        return network, chosen, num_tokens
    least = min(num_tokens, max(MIN_TOKENS, training.context_tokens))
    sketch = network
    while True:
        chosen = sample_layers(sketch)
        with only_layers(sketch, chosen.levels):
            each = flops(sketch)
            tokens = min(num_tokens, max(least, int(part_flops / each)))
            tokens = tokens if fits(sketch, tokens) else least
            if fits(sketch, tokens) and tokens * each <= part_flops:
                return sketch, chosen, tokens
        if (smaller := narrower(sketch, FEW_TOKENS)) is None:
            return sketch, chosen, tokens
        sketch = smaller


def _within(batch: Batch, config: Config) -> Batch:
    """The batch with ids that are in the vocabulary of a narrower network."""
    if config.head.labels:
        return replace(batch, input_ids=batch.input_ids % config.vocab_size)
    source = None if batch.source_ids is None else batch.source_ids % config.vocab_size
    ids, targets = batch.input_ids % config.vocab_size, batch.targets % config.vocab_size
    return replace(batch, input_ids=ids, targets=targets, source_ids=source)


class Rehearsal:
    """A network with its batches and an optimizer."""

    def __init__(
        self,
        module: Network,
        training: TrainingSettings,
        batches: list[Batch],
        runtime: Runtime,
        objective: Objective,
    ) -> None:
        self.training, self.runtime = replace(training, precision=runtime.precision), runtime
        self.module = module
        self.module.set_activation_checkpointing(training.checkpoint_activations)
        self.batches = [batch.to(runtime.device) for batch in batches]
        self.compute = TrainStep(self.module, objective)

    def new_optimizer(self) -> Optimizer:
        """An optimizer of the network's parameters."""
        return OPTIMIZERS.get(self.training.optimizer)(self.module, self.training)

    def forward(self, batch: Batch) -> Tensor:
        """The summed loss."""
        with self.runtime.autocast():
            loss: Tensor = self.compute(batch)[0]
        return loss

    def learn(self, batch: Batch) -> None:
        """Forward and backward."""
        (self.forward(batch) / batch.num_targets).backward()

    @torch.no_grad()
    def read(self, batch: Batch) -> None:
        """Forward only, as in an evaluation."""
        self.compute.eval()
        self.forward(batch).item()
        self.compute.train()

    def update(self, optimizer: Optimizer) -> None:
        """The norm of the gradients and an optimizer step too small to change anything."""
        torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.gradients()))).item()
        optimizer.step(1e-6, gradient_scale=0.5)

    def gradients(self) -> list[Tensor]:
        """The gradients that exist."""
        return [p.grad for p in trainable(self.module).values() if p.grad is not None]


def _seconds(rehearsal: Rehearsal, most_seconds: float) -> list[float]:
    """Time rounds -> seconds of learning and reading per token, and of an update, as medians.

    Then a quick and a slow learning, as shares of the usual one. Every round has its own batch, as in
    training: in bfloat16 each shape needs a kernel of its own.
    """
    rows: list[tuple[float, float, float]] = []
    timed = partial(seconds_per_call, device=rehearsal.runtime.device)
    optimizer = rehearsal.new_optimizer()
    enough = [(MIN_ROUNDS, min(TIMING_SECONDS, most_seconds / 4))]
    enough += [(rounds, share * most_seconds) for rounds, share in ENOUGH]
    started = time.perf_counter()
    for number, batch in enumerate(rehearsal.batches, -1):  # the first round only warms up
        spent = time.perf_counter() - started
        if any(number >= rounds and spent > seconds for rounds, seconds in enough):
            break
        learn = timed(partial(rehearsal.learn, batch)) / batch.num_tokens
        update = timed(partial(rehearsal.update, optimizer))
        rehearsal.module.zero_grad()
        read = timed(partial(rehearsal.read, batch)) / batch.num_tokens
        if number >= 0:
            rows.append((learn, read, update))
    ordered = sorted(row[0] for row in rows)
    quick, slow = (ordered[round(share * (len(ordered) - 1))] / median(ordered) for share in (0.1, 0.9))
    return [*(median(column) for column in zip(*rows, strict=True)), quick, slow]
