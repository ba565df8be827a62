"""One real step of a shape at one and two layers: its time and what it keeps, to be scaled to the whole
depth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seedbed.base.runtime import Runtime
from seedbed.models.family import Config
from seedbed.models.network import build, initialize
from seedbed.nn.layout import Layout
from seedbed.nn.loss import cross_entropy_sum
from seedbed.training.optimizer import OPTIMIZERS
from seedbed.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step costs: seconds by part, and the bytes that autograd keeps for the backward pass."""

    forward_backward: float
    forward: float
    optimizer: float
    saved_bytes: int


def measure_step(
    config: Config, training: TrainingSettings, *, depth: int, num_tokens: int, runtime: Runtime
) -> Step:
    """Time one step of the config with `depth` layers on `num_tokens` tokens in rows of the context."""
    module = build(replace(config, num_layers=depth), runtime.device)
    initialize(module, runtime.generator(0))
    module.set_activation_checkpointing(training.checkpoint_activations)
    context = min(training.context_tokens, num_tokens)
    lengths = [context] * max(1, num_tokens // context)
    layout = Layout.of(lengths, device=runtime.device)
    ids = torch.arange(sum(lengths), device=runtime.device) % config.vocab_size
    optimizer = OPTIMIZERS.get(training.optimizer)(module, training)

    def forward() -> Tensor:
        with runtime.autocast():
            return cross_entropy_sum(module.output(module(ids, layout)), ids)

    def forward_backward() -> None:
        (forward() / len(ids)).backward()

    def evaluate() -> None:
        with torch.no_grad():
            forward()

    module.train()
    saved = _saved_bytes(module, forward)
    forward_backward()
    return Step(
        forward_backward=_fastest(forward_backward),
        optimizer=_fastest(lambda: optimizer.step(1e-6)),
        forward=_fastest(evaluate),
        saved_bytes=saved,
    )


def step_at_depth(config: Config, training: TrainingSettings, *, num_tokens: int, runtime: Runtime) -> Step:
    """A step of the whole network, from those at one and at two layers: every layer costs the same."""
    shallow = [
        measure_step(config, training, depth=depth, num_tokens=num_tokens, runtime=runtime)
        for depth in (1, 2)[: config.num_layers]
    ]
    one, two = shallow[0], shallow[-1]

    def line(name: str) -> float:
        a, b = getattr(one, name), getattr(two, name)
        return float(a + max(0.0, b - a) * (config.num_layers - 1))

    return Step(
        forward_backward=line("forward_backward"),
        forward=line("forward"),
        optimizer=line("optimizer"),
        saved_bytes=int(line("saved_bytes")),
    )


def _fastest(call: Callable[[], object], *, least: int = 3, burst_seconds: float = 0.25) -> float:
    """The lower quartile of a few calls: bursts of other work on a shared machine pass."""
    call()
    times: list[float] = []
    end = time.perf_counter() + burst_seconds
    while len(times) < least or (time.perf_counter() < end and len(times) < 25):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 4]


def _saved_bytes(module: Any, forward: Callable[[], Tensor]) -> int:
    """Bytes of the distinct tensors that autograd keeps, the parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = forward()
    del loss
    return sum(kept.values())
