"""What measurements share: the first layers of a network, the whole from them, a call timed; a checkpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from seedbed.base.hardware import finish
from seedbed.base.runtime import Runtime
from seedbed.training.checkpoints import Checkpoints

DEPTHS = (1, 3)
SAVED_BYTES = 2**25


def whole_depth(low: float, high: float, depths: tuple[int, ...], num_layers: int) -> float:
    """The cost of all layers from that of the least and of the most that were tried: each costs the same."""
    each = (high - low) / max(1, depths[-1] - depths[0])
    return high + max(0.0, each) * (num_layers - depths[-1])


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
