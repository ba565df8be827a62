"""A rehearsal of training: real steps of a shape on real batches, timed, with every tensor accounted for.

The whole network where that is quick, else a few of its layers on fewer tokens, from which the whole follows:
every layer of a kind costs the same, and so does every token.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, median

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
from seedbed.select.layers import Sample, all_levels, only_layers, sample, stand_in
from seedbed.select.ledger import StorageLedger
from seedbed.training.frozen import require_trainable, weights_of
from seedbed.training.optimizer import OPTIMIZERS, Optimizer, trainable
from seedbed.training.settings import TrainingSettings
from seedbed.training.train_step import TrainStep, require_gradient

# A step of more is not rehearsed as it is: a third to two seconds on two cores.
MOST_FLOPS = 1.5e11
FEWEST_TOKENS = 1024
TIMING_SECONDS, FEWEST_ROUNDS, MOST_ROUNDS = 1.5, 5, 25
DRAWN_STEPS = 32
# What grows with the tokens of a batch; the rest does so with the layers alone.
OF_TOKENS = ("activations", "logits", "temporary")
# What glibc's heap loses between the tensors that come and go with a step, as a share of them, where it
# cannot be measured.
HEAP_SLACK = 0.3

Parts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of learning from a token and of reading one, of an update, and of a step's tokens drawn."""

    learning: float
    reading: float
    update: float
    sampling: float


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What a rehearsal found: costs, tokens read in a step on this rank, bytes at the highest moment.

    `parts` are the tensors', `heap_bytes` what the heap loses beside them.
    """

    costs: Costs
    step_tokens: float
    shares: Shares
    parts: Parts
    heap_bytes: int


class Drawn:
    """The first batches that the loader deals to this rank, and what it takes to deal them."""

    def __init__(self, mixture: Sequence[MixturePart], training: TrainingSettings, runtime: Runtime) -> None:
        self.mixture, self.training = mixture, training
        loader = self._loader(training.batch_tokens)
        seconds, self.steps = [], []
        for _ in range(DRAWN_STEPS):
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
        self.step_tokens = fmean(sum(batch.num_tokens for batch in step) for step in self.steps)
        batches = [batch for step in self.steps for batch in step]
        num_source = sum(0 if b.source_ids is None else len(b.source_ids) for b in batches)
        num_tokens = sum(batch.num_tokens for batch in batches)
        num_targets = sum(batch.num_targets for batch in batches)
        self.shares = Shares(num_source / num_tokens, num_targets / num_tokens)
        self.num_micro_batches = max(map(len, self.steps))
        self.most_tokens = max(batch.num_tokens for step in self.steps for batch in step)

    def _loader(self, batch_tokens: int) -> Loader:
        return Loader(self.mixture, batch_tokens=batch_tokens, seed=self.training.seed)

    def batches(self, num_tokens: int) -> list[Batch]:
        """Some batches as they are, or of `num_tokens` where that is less, the largest first."""
        found = [batch for step in self.steps for batch in step]
        if num_tokens < self.most_tokens:
            loader = self._loader(num_tokens)
            found = [micro_batches(loader.next_step())[0] for _ in range(DRAWN_STEPS)]
        largest = max(range(len(found)), key=lambda i: found[i].num_tokens)
        return [found.pop(largest), *found[:MOST_ROUNDS]]


def even_mixture(objective: Objective, context_tokens: int, vocab_size: int) -> list[MixturePart]:
    """What an objective trains on where nothing is known of the data."""
    return [
        MixturePart(even_source(part, context_tokens, vocab_size), part, share)
        for part, share in objective.mixture()
    ]


def even_source(objective: Objective, context_tokens: int, vocab_size: int) -> RecordSource:
    """Records that fill the context, where nothing is known of the data; answers take a quarter of it."""

    def ids(num_tokens: int) -> list[int]:
        return [position % vocab_size for position in range(num_tokens)]

    if objective.learns_from == "text":
        return RecordSource([ids(objective.record_tokens(context_tokens) + objective.overlap)])
    num_answer = {"labels": 1, "tags": context_tokens}.get(objective.learns_from, context_tokens // 4)
    room = int(objective.max_input_tokens(np.array([num_answer]), context_tokens)[0])
    labels = objective.learns_from != "pairs"
    answer = [1] * min(room, num_answer) if labels else ids(num_answer)
    return RecordSource([ids(room)], answers=[answer])


def rehearse(
    network: Network,
    training: TrainingSettings,
    *,
    mixture: Sequence[MixturePart],
    runtime: Runtime,
    resident: ResidentPeak | None = None,
) -> Rehearsed:
    """Rehearse steps of a training on a mixture whose parts have one kind of loss; nothing of them is kept.

    A copy of the network is rehearsed (see `stand_in`), with what is frozen in it. Times are medians of calls
    spread over a second and a half: what else the machine does counts as it will in training. With `resident`
    the heap's loss is measured: the peak of the rehearsal less its tensors.
    """
    require_trainable(network)
    drawn = Drawn(mixture, training, runtime)
    chosen, num_tokens = _affordable(network, training, drawn.most_tokens)
    if resident is not None:
        resident.lap()
    copy = stand_in(network, chosen.levels, runtime)
    rehearsal = _Rehearsal(copy, training, drawn.batches(num_tokens), runtime, mixture[0].objective)
    accounts = [rehearsal.account(levels, repeat=drawn.num_micro_batches > 1) for levels in chosen.tries]
    costs = _time_tries(rehearsal, chosen, sampling=drawn.seconds)
    tokens = rehearsal.batches[0].num_tokens
    # What there was at once: all layers, and the optimizers of all tries.
    passing = max(_passing(moment) for moments in accounts for moment in moments)
    tensors = sum(tensor.nbytes for tensor in weights_of(copy).values()) + passing
    tensors += sum(moments[0].get("optimizer", 0) for moments in accounts)
    peak = resident.peak() if resident is not None else 0
    del rehearsal, copy
    gc.collect()
    share = drawn.most_tokens / tokens
    whole = [_whole_parts(moments, chosen, share) for moments in zip(*accounts, strict=True)]
    parts = max(whole, key=lambda moment: sum(moment.values()))
    heap_share = HEAP_SLACK
    if resident is not None and resident.is_exact and runtime.device.type == "cpu":
        heap_share = max(0, peak - resident.lap() - tensors) / max(1, passing)
    return Rehearsed(
        costs=costs,
        step_tokens=drawn.step_tokens,
        shares=drawn.shares,
        parts=parts,
        heap_bytes=int(heap_share * _passing(parts)),
    )


def _affordable(network: Network, training: TrainingSettings, num_tokens: int) -> tuple[Sample, int]:
    """The layers to rehearse and the tokens of a batch."""
    row_tokens = min(training.context_tokens, num_tokens)
    if training_flops(network, num_tokens=num_tokens, row_tokens=row_tokens) <= MOST_FLOPS:
        return all_levels(network), num_tokens
    chosen = sample(network)
    with only_layers(network, chosen.levels):
        affordable = int(MOST_FLOPS / training_flops(network, num_tokens=1, row_tokens=row_tokens))
    return chosen, min(num_tokens, max(FEWEST_TOKENS, training.context_tokens, affordable))


def _passing(parts: Parts) -> int:
    """Bytes of the tensors that come and go with a step."""
    return sum(size for part, size in parts.items() if part not in ("weights", "optimizer"))


def _whole_parts(moments: Sequence[Parts], chosen: Sample, share: float) -> Parts:
    """The parts of all layers and tokens from those of one moment of every try."""
    parts = {}
    for part in dict.fromkeys(part for moment in moments for part in moment):
        size = chosen.whole([moment.get(part, 0) for moment in moments])
        parts[part] = int(size * share) if part in OF_TOKENS else int(size)
    return parts


class _Rehearsal:
    """A network with its batches and one optimizer for each choice of layers that is tried."""

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
        """Forward alone, as in an evaluation."""
        self.compute.eval()
        self.forward(batch).item()
        self.compute.train()

    def update(self, levels: tuple[int, ...]) -> None:
        """The gradients' norm and the optimizer's step, too small to change anything."""
        torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.gradients()))).item()
        self.optimizers[levels].step(1e-6, gradient_scale=0.5)

    def gradients(self) -> list[Tensor]:
        """The gradients that there are."""
        return [p.grad for p in trainable(self.module).values() if p.grad is not None]

    def clear(self) -> None:
        """Drop the gradients."""
        for parameter in self.module.parameters():
            parameter.grad = None

    def account(self, levels: tuple[int, ...], *, repeat: bool) -> list[Parts]:
        """Bytes by part at the highest moment of learning, and at that of the update.

        weights, gradients, optimizer, activations (kept for the backward pass), logits, temporary (all else).
        `repeat` learns twice, as a step of several micro-batches does.
        """
        batch = self.batches[0]
        moments: list[Parts] = []
        with only_layers(self.module, levels), StorageLedger("temporary") as ledger:
            ledger.book(weights_of(self.module).values(), "weights")
            ledger.book(batch.tensors, "temporary")
            with ledger.booking("optimizer"):
                self.optimizers[levels] = OPTIMIZERS.get(self.training.optimizer)(self.module, self.training)
            with booked_logits(self.module, ledger):
                ledger.begin_peak()
                for _ in range(2 if repeat else 1):
                    with ledger.booking("activations"):
                        loss = self.forward(batch)
                    require_gradient(loss, trainable(self.module))
                    loss.backward()
                    del loss
                    ledger.move(self.gradients(), "gradients")
                moments.append(ledger.parts_at_peak())
            ledger.begin_peak()
            self.update(levels)
            moments.append(ledger.parts_at_peak())
            self.clear()
        return moments


@contextmanager
def booked_logits(module: Network, ledger: StorageLedger) -> Iterator[None]:
    """Let what the module's output makes be booked on a part of its own."""
    output = module.output

    def booked(hidden: Tensor) -> Tensor:
        with ledger.booking("logits"):
            return output(hidden)

    object.__setattr__(module, "output", booked)
    try:
        yield
    finally:
        object.__delattr__(module, "output")


def _time_tries(rehearsal: _Rehearsal, chosen: Sample, *, sampling: float) -> Costs:
    """Time each try in turn, round after round, so that a busy moment falls on all -> costs of all layers.

    Every round has a batch of its own, as training does: in bfloat16 kernels are made for its shape.
    """
    seconds: dict[tuple[int, ...], list[tuple[float, float, float]]] = {levels: [] for levels in chosen.tries}
    timed = partial(seconds_per_call, device=rehearsal.runtime.device)
    started = time.perf_counter()
    for number, batch in enumerate(rehearsal.batches, -1):  # the first round only warms up
        if number >= FEWEST_ROUNDS and time.perf_counter() - started > TIMING_SECONDS:
            break
        for levels in chosen.tries:
            with only_layers(rehearsal.module, levels):
                learn = timed(partial(rehearsal.learn, batch))
                update = timed(partial(rehearsal.update, levels))
                rehearsal.clear()
                read = timed(partial(rehearsal.read, batch))
            if number >= 0:
                seconds[levels].append((learn / batch.num_tokens, read / batch.num_tokens, update))
    medians = [[median(column) for column in zip(*rows, strict=True)] for rows in seconds.values()]
    learning, reading, update = (chosen.whole(column) for column in zip(*medians, strict=True))
    return Costs(learning=learning, reading=reading, update=update, sampling=sampling)
