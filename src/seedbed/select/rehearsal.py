"""A rehearsal of training: real steps on real batches, with their time and the memory of every tensor.

It runs the whole network if that is quick, else a few of its layers on fewer tokens, and extrapolates: every
layer of a kind costs the same, and so does every token.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from seedbed.base.hardware import ResidentPeak, seconds_per_call
from seedbed.base.runtime import Runtime
from seedbed.data.batch import Batch
from seedbed.data.loader import Loader, MixturePart, micro_batches
from seedbed.data.objective import Objective
from seedbed.data.records import RecordSource
from seedbed.models.family import Network
from seedbed.select.compute import Shares, training_flops
from seedbed.select.layers import LayerSample, all_levels, only_layers, sample_layers, stand_in
from seedbed.select.ledger import StorageLedger
from seedbed.training.gradients import require_gradient
from seedbed.training.loop import TrainStep
from seedbed.training.optimizer import OPTIMIZERS, Optimizer, require_trainable, trainable
from seedbed.training.resume import weights_of
from seedbed.training.settings import TrainingSettings

# A step with more is not rehearsed whole; this takes a third to two seconds on two cores.
MAX_FLOPS = 1.5e11
MIN_TOKENS = 1024
TIMING_SECONDS, MIN_ROUNDS, MAX_ROUNDS = 1.5, 5, 25
SAMPLED_STEPS = 32
# Parts that grow with the tokens of a batch; the others grow with the layers alone.
TOKEN_PARTS = ("activations", "logits", "temporary")
# What glibc's heap loses between a step's transient tensors, as a share of them, if it cannot be measured.
HEAP_SLACK = 0.3

Parts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class RehearsalResult:
    """Seconds of a step's parts, its tokens on this rank, and bytes at the peak."""

    learning: float  # per token
    reading: float  # per token, as in an evaluation
    update: float
    sampling: float  # of a step's batches
    step_tokens: float
    shares: Shares
    parts: Parts  # the tensors' bytes
    heap_bytes: int  # what the heap loses beside them


class SampledBatches:
    """The loader's first batches for this rank, and the seconds per step to sample them."""

    def __init__(self, mixture: Sequence[MixturePart], training: TrainingSettings, runtime: Runtime) -> None:
        self._loader = partial(Loader, mixture, seed=training.seed)
        loader = self._loader(batch_tokens=training.batch_tokens)
        seconds, self.steps = [], []
        for _ in range(SAMPLED_STEPS):
            started = time.perf_counter()
            self.steps.append(
                micro_batches(
                    loader.next_step(),
                    micro_batch_tokens=training.micro_batch_tokens,
                    rank=runtime.rank,
                    world_size=runtime.world_size,
                )
            )
            seconds.append(time.perf_counter() - started)
        self.seconds = median(seconds)
        self._all = [batch for step in self.steps for batch in step]
        num_source = sum(0 if batch.source_ids is None else len(batch.source_ids) for batch in self._all)
        num_tokens = sum(batch.num_tokens for batch in self._all)
        num_targets = sum(batch.num_targets for batch in self._all)
        self.shares = Shares(num_source / num_tokens, num_targets / num_tokens)
        self.step_tokens = num_tokens / SAMPLED_STEPS
        self.num_micro_batches = max(map(len, self.steps))
        self.max_tokens = max(batch.num_tokens for batch in self._all)

    def batches(self, num_tokens: int) -> list[Batch]:
        """Some batches, of at most `num_tokens`, the largest first."""
        found = [*self._all]
        if num_tokens < self.max_tokens:
            loader = self._loader(batch_tokens=num_tokens)
            found = [micro_batches(loader.next_step())[0] for _ in range(SAMPLED_STEPS)]
        largest = max(range(len(found)), key=lambda i: found[i].num_tokens)
        return [found.pop(largest), *found[:MAX_ROUNDS]]


def even_mixture(objective: Objective, context_tokens: int, vocab_size: int) -> list[MixturePart]:
    """A mixture for an objective when nothing is known of the data."""
    return [
        MixturePart(even_source(part, context_tokens, vocab_size), part, share)
        for part, share in objective.mixture()
    ]


def even_source(objective: Objective, context_tokens: int, vocab_size: int) -> RecordSource:
    """Records that fill the context, for when nothing is known of the data; answers take a quarter of it."""

    def ids(num_tokens: int) -> list[int]:
        return [position % vocab_size for position in range(num_tokens)]

    if objective.learns_from == "text":
        return RecordSource([ids(objective.record_tokens(context_tokens) + objective.overlap)])
    whole = {"tags": context_tokens, "conversations": context_tokens + 1}
    num_answer = (whole | {"labels": 1}).get(objective.learns_from, context_tokens // 4)
    num_input = int(objective.max_input_tokens(np.array([num_answer]), context_tokens)[0])
    are_labels = objective.learns_from != "pairs"
    answer = [1] * min(num_input, num_answer) if are_labels else ids(num_answer)
    return RecordSource([ids(num_input)], answers=[answer])


def rehearse(
    network: Network,
    training: TrainingSettings,
    *,
    mixture: Sequence[MixturePart],
    runtime: Runtime,
    resident: ResidentPeak | None = None,
) -> RehearsalResult:
    """Rehearse training steps of a copy of the network on a mixture whose parts have one kind of loss.

    Times are medians of calls spread over a second and a half, so that other processes slow it as they will
    slow the training. With `resident` the heap's loss is measured: the peak less the tensors.
    """
    require_trainable(network)
    sampled = SampledBatches(mixture, training, runtime)
    chosen, num_tokens = _affordable(network, training, sampled.max_tokens)
    if resident is not None:
        resident.lap()
    copy = stand_in(network, chosen.levels, runtime)
    rehearsal = _Rehearsal(copy, training, sampled.batches(num_tokens), runtime, mixture[0].objective)
    measured = [
        rehearsal.measure_bytes(levels, repeat=sampled.num_micro_batches > 1) for levels in chosen.tries
    ]
    learning, reading, update = _time_tries(rehearsal, chosen)
    tokens = rehearsal.batches[0].num_tokens
    # What existed at once: all layers, and the optimizers of all tries.
    transient = max(_transient_bytes(moment) for moments in measured for moment in moments)
    tensors = sum(tensor.nbytes for tensor in weights_of(copy).values()) + transient
    tensors += sum(moments[0].get("optimizer", 0) for moments in measured)
    peak = resident.peak() if resident is not None else 0
    del rehearsal, copy
    gc.collect()
    share = sampled.max_tokens / tokens
    whole = [_extrapolate_parts(moments, chosen, share) for moments in zip(*measured, strict=True)]
    parts = max(whole, key=lambda moment: sum(moment.values()))
    heap_share = HEAP_SLACK
    if resident is not None and resident.is_exact and runtime.device.type == "cpu":
        heap_share = max(0, peak - resident.lap() - tensors) / max(1, transient)
    return RehearsalResult(
        learning=learning,
        reading=reading,
        update=update,
        sampling=sampled.seconds,
        step_tokens=sampled.step_tokens,
        shares=sampled.shares,
        parts=parts,
        heap_bytes=int(heap_share * _transient_bytes(parts)),
    )


def _affordable(network: Network, training: TrainingSettings, num_tokens: int) -> tuple[LayerSample, int]:
    """The layers to rehearse, and the tokens per batch."""
    row_tokens = min(training.context_tokens, num_tokens)
    if training_flops(network, num_tokens=num_tokens, row_tokens=row_tokens) <= MAX_FLOPS:
        return all_levels(network), num_tokens
    chosen = sample_layers(network)
    with only_layers(network, chosen.levels):
        affordable = int(MAX_FLOPS / training_flops(network, num_tokens=1, row_tokens=row_tokens))
    return chosen, min(num_tokens, max(MIN_TOKENS, training.context_tokens, affordable))


def _transient_bytes(parts: Parts) -> int:
    """Bytes of the tensors that a step allocates and frees."""
    return sum(size for part, size in parts.items() if part not in ("weights", "optimizer"))


def _extrapolate_parts(moments: Sequence[Parts], chosen: LayerSample, share: float) -> Parts:
    """The parts of all layers and tokens, from one moment of every try."""
    parts = {}
    for part in dict.fromkeys(part for moment in moments for part in moment):
        size = chosen.extrapolate([moment.get(part, 0) for moment in moments])
        parts[part] = int(size * share) if part in TOKEN_PARTS else int(size)
    return parts


class _Rehearsal:
    """A network with its batches and one optimizer per try."""

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
        self.optimizers: dict[tuple[int, ...], Optimizer] = {}

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

    def update(self, levels: tuple[int, ...]) -> None:
        """The norm of the gradients and an optimizer step too small to change anything."""
        torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.gradients()))).item()
        self.optimizers[levels].step(1e-6, gradient_scale=0.5)

    def gradients(self) -> list[Tensor]:
        """The gradients that exist."""
        return [p.grad for p in trainable(self.module).values() if p.grad is not None]

    def measure_bytes(self, levels: tuple[int, ...], *, repeat: bool) -> list[Parts]:
        """Bytes by part at the peak of learning and at the peak of the update; temporary is all else.

        `repeat` learns twice, as in a step of several micro-batches.
        """
        batch = self.batches[0]
        moments: list[Parts] = []
        with only_layers(self.module, levels), StorageLedger("temporary") as ledger:
            ledger.record(weights_of(self.module).values(), "weights")
            ledger.record(batch.tensors, "temporary")
            with ledger.recording("optimizer"):
                self.optimizers[levels] = OPTIMIZERS.get(self.training.optimizer)(self.module, self.training)
            with logits_recorded(self.module, ledger):
                ledger.begin_peak()
                for _ in range(2 if repeat else 1):
                    with ledger.recording("activations"):
                        loss = self.forward(batch)
                    require_gradient(loss, trainable(self.module))
                    loss.backward()
                    del loss
                    ledger.move(self.gradients(), "gradients")
                moments.append(ledger.parts_at_peak())
            ledger.begin_peak()
            self.update(levels)
            moments.append(ledger.parts_at_peak())
            self.module.zero_grad()
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


def _time_tries(rehearsal: _Rehearsal, chosen: LayerSample) -> list[float]:
    """Time the tries in turns, so that a busy moment slows all of them -> learning, reading, update.

    Every round has its own batch, as in training: in bfloat16 each shape needs a kernel of its own.
    """
    seconds: dict[tuple[int, ...], list[tuple[float, float, float]]] = {levels: [] for levels in chosen.tries}
    timed = partial(seconds_per_call, device=rehearsal.runtime.device)
    started = time.perf_counter()
    for number, batch in enumerate(rehearsal.batches, -1):  # the first round only warms up
        if number >= MIN_ROUNDS and time.perf_counter() - started > TIMING_SECONDS:
            break
        for levels in chosen.tries:
            with only_layers(rehearsal.module, levels):
                learn = timed(partial(rehearsal.learn, batch))
                update = timed(partial(rehearsal.update, levels))
                rehearsal.module.zero_grad()
                read = timed(partial(rehearsal.read, batch))
            if number >= 0:
                seconds[levels].append((learn / batch.num_tokens, read / batch.num_tokens, update))
    medians = [[median(column) for column in zip(*rows, strict=True)] for rows in seconds.values()]
    return [chosen.extrapolate(column) for column in zip(*medians, strict=True)]
