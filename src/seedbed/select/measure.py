"""A real step of a shape, timed: the whole network's where that is quick, else two depths' and scaled."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from seedbed.base.hardware import finish
from seedbed.base.runtime import Runtime
from seedbed.models.family import Config, Network
from seedbed.models.network import build, initialize
from seedbed.nn.state import DecodeState
from seedbed.select.compute import training_flops
from seedbed.select.memory import even_batch
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.optimizer import OPTIMIZERS, trainable
from seedbed.training.settings import TrainingSettings
from seedbed.training.train_step import OBJECTIVES, Objective, TrainStep

# A step of more is not timed as it is: a third to two seconds on two cores.
MOST_FLOPS = 1.5e11
DEPTHS = (1, 3)
FEWEST_TOKENS = 1024
TIMING_SECONDS, FEWEST_ROUNDS, MOST_ROUNDS = 1.5, 2, 25
TIMED_STEPS = 8  # of a decoding
SAVED_BYTES = 2**25


@dataclass(frozen=True, kw_only=True)
class Step:
    """Seconds of a micro-batch, forward and backward or forward alone, and of a step's norm and update."""

    forward_backward: float
    forward: float
    optimizer: float


def step_at_depth(
    config: Config,
    training: TrainingSettings,
    *,
    num_tokens: int,
    runtime: Runtime,
    objective: Objective | None = None,
    row_tokens: int | None = None,
) -> Step:
    """The cost of a micro-batch of `num_tokens` in rows of `row_tokens` (the context), and of an update.

    Medians of calls spread over a second and a half: what else the machine does counts as it will in
    training. Every layer costs the same, and beyond `FEWEST_TOKENS` every token.
    """
    row_tokens = min(row_tokens or training.context_tokens, num_tokens)

    def flops(depth: int, tokens: int) -> float:
        return training_flops(replace(config, num_layers=depth), num_tokens=tokens, row_tokens=row_tokens)

    tokens = num_tokens
    depths: tuple[int, ...] = (config.num_layers,)
    if flops(config.num_layers, num_tokens) > MOST_FLOPS:
        if config.num_layers > DEPTHS[-1]:
            depths = DEPTHS
        affordable = int(MOST_FLOPS / flops(depths[-1], 1))
        tokens = min(num_tokens, max(FEWEST_TOKENS, row_tokens, affordable))
    objective = objective or OBJECTIVES.get("causal")()
    rehearsal = _Rehearsal(
        replace(config, num_layers=depths[-1]),
        training,
        num_tokens=tokens,
        row_tokens=row_tokens,
        runtime=runtime,
        objective=objective,
    )
    costs = _time_depths(rehearsal, depths)

    def whole(name: str) -> float:
        low, high = getattr(costs[0], name), getattr(costs[-1], name)
        return _whole_depth(low, high, depths=depths, num_layers=config.num_layers)

    share = num_tokens / tokens
    return Step(
        forward_backward=whole("forward_backward") * share,
        forward=whole("forward") * share,
        optimizer=whole("optimizer"),
    )


def _whole_depth(low: float, high: float, *, depths: tuple[int, ...], num_layers: int) -> float:
    """The cost of all layers from that of the least and of the most that were timed: each costs the same."""
    each = (high - low) / max(1, depths[-1] - depths[0])
    return high + max(0.0, each) * (num_layers - depths[-1])


def _time_depths(rehearsal: _Rehearsal, depths: tuple[int, ...]) -> list[Step]:
    """Time the network at each depth in turn, round after round, so that a busy moment falls on all."""
    learning: dict[int, list[float]] = {depth: [] for depth in depths}
    reading: dict[int, list[float]] = {depth: [] for depth in depths}
    started = time.perf_counter()
    for number in range(-1, MOST_ROUNDS):  # the first round only warms up
        if number >= FEWEST_ROUNDS and time.perf_counter() - started > TIMING_SECONDS:
            break
        for depth in depths:
            with layers_up_to(rehearsal.module, depth):
                learn = seconds_of(rehearsal.learn, rehearsal.runtime)
                rehearsal.module.zero_grad()
                read = seconds_of(rehearsal.evaluate, rehearsal.runtime)
            if number >= 0:
                learning[depth].append(learn)
                reading[depth].append(read)
    steps = []
    for depth in depths:
        with layers_up_to(rehearsal.module, depth):
            update = rehearsal.update_seconds()
        costs = median(learning[depth]), median(reading[depth])
        steps.append(Step(forward_backward=costs[0], forward=costs[1], optimizer=update))
    return steps


class _Rehearsal:
    """The parts of a training step, on one batch over and over."""

    def __init__(
        self,
        config: Config,
        training: TrainingSettings,
        *,
        num_tokens: int,
        row_tokens: int,
        runtime: Runtime,
        objective: Objective,
    ) -> None:
        self.training, self.runtime = training, runtime
        self.module = build(config, runtime.device)
        initialize(self.module, runtime.generator(0))
        self.module.set_activation_checkpointing(training.checkpoint_activations)
        batch = even_batch(num_tokens, row_tokens, vocab_size=config.vocab_size, objective=objective)
        self.batch, self.compute = batch.to(runtime.device), TrainStep(self.module, objective)

    def forward(self) -> Tensor:
        """The summed loss."""
        with self.runtime.autocast():
            loss: Tensor = self.compute(self.batch)[0]
        return loss

    def learn(self) -> None:
        """Forward and backward."""
        (self.forward() / self.batch.num_targets).backward()

    @torch.no_grad()
    def evaluate(self) -> None:
        """Forward alone."""
        self.forward()

    def update_seconds(self) -> float:
        """The time of the gradients' norm and the optimizer's step."""
        self.learn()
        optimizer = OPTIMIZERS.get(self.training.optimizer)(self.module, self.training)
        gradients = [p.grad for p in trainable(self.module).values() if p.grad is not None]

        def update() -> None:
            torch._foreach_norm(gradients)
            optimizer.step(1e-6, gradient_scale=0.5)

        seconds = median(seconds_of(update, self.runtime) for _ in range(3))
        self.module.zero_grad()
        return seconds


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Seconds to read the prompts and to make one more token of each row."""

    prompt: float
    step: float


def decode_at_depth(
    config: Config, *, num_rows: int, prompt_tokens: int, capacity: int, runtime: Runtime
) -> Decoding:
    """The cost of decoding `num_rows` rows with room for `capacity` tokens, greedily, from two depths."""
    depths = DEPTHS if config.num_layers > DEPTHS[-1] else (config.num_layers,)
    costs = []
    for depth in depths:
        module = build(replace(config, num_layers=depth), runtime.device).eval()
        initialize(module, runtime.generator(0))
        costs.append(_time_decoding(module, num_rows, prompt_tokens, capacity=capacity, runtime=runtime))

    prompt, step = (
        _whole_depth(low, high, depths=depths, num_layers=config.num_layers)
        for low, high in zip(costs[0], costs[-1], strict=True)
    )
    return Decoding(prompt=prompt, step=step)


def _time_decoding(
    module: Network, num_rows: int, prompt_tokens: int, *, capacity: int, runtime: Runtime
) -> tuple[float, float]:
    """Seconds of the prompts and of a step, medians after a first try."""
    prompts, steps = [], []
    for _ in range(FEWEST_ROUNDS + 1):
        state = module.start(num_rows, capacity)

        @torch.inference_mode()
        def append(count: int, state: DecodeState = state) -> None:
            layout = state.layout([count] * num_rows)
            ids = torch.zeros(num_rows * count, dtype=torch.int64, device=runtime.device)
            with runtime.autocast():
                hidden = module.extend(state, ids, layout)
                module.output(hidden[layout.last_tokens()]).argmax(-1)

        prompts.append(seconds_of(partial(append, prompt_tokens), runtime))
        for _ in range(min(TIMED_STEPS, capacity - prompt_tokens)):
            steps.append(seconds_of(partial(append, 1), runtime))
    return median(prompts[1:]), median(steps)


def seconds_to_save(num_bytes: int, folder: Path | None = None) -> float:
    """The time of a checkpoint of so many bytes: what one of no size takes here, and one of `SAVED_BYTES`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".timed-") as place:
        checkpoints = Checkpoints(Path(place))
        seconds = []
        for size in (1, min(num_bytes, SAVED_BYTES)):
            tensors = {"weights": {"timed": torch.ones(size // 4 + 1)}}
            started = time.perf_counter()
            checkpoints.save(size, tensors, {})
            seconds.append(time.perf_counter() - started)
    return seconds[0] + max(0.0, seconds[1] - seconds[0]) * num_bytes / min(num_bytes, SAVED_BYTES)


@contextmanager
def layers_up_to(module: nn.Module, depth: int) -> Iterator[None]:
    """Let a network run with its first `depth` layers only."""
    stacks = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList)
    ]
    for parent, name, child in stacks:
        setattr(parent, name, child[:depth])
    try:
        yield
    finally:
        for parent, name, child in stacks:
            setattr(parent, name, child)


def seconds_of(call: Callable[[], None], runtime: Runtime) -> float:
    """The wall time of one call."""
    finish(runtime.device)
    started = time.perf_counter()
    call()
    finish(runtime.device)
    return time.perf_counter() - started
