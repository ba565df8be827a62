"""Calls timed: any, and a checkpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from seedbed.base.hardware import finish
from seedbed.base.runtime import Runtime
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.run_folder import TIMED

SAVED_BYTES = 2**25


def seconds_to_save(num_bytes: int, folder: Path | None = None) -> float:
    """The time of a checkpoint of so many bytes: what one of no size takes here, and one of `SAVED_BYTES`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=TIMED) as place:
        checkpoints = Checkpoints(Path(place))
        seconds = []
        for size in (1, min(num_bytes, SAVED_BYTES)):
            tensors = {"weights": {"timed": torch.ones(size // 4 + 1)}}
            started = time.perf_counter()
            checkpoints.save(size, tensors, {})
            seconds.append(time.perf_counter() - started)
    return seconds[0] + max(0.0, seconds[1] - seconds[0]) * num_bytes / min(num_bytes, SAVED_BYTES)


def seconds_of(call: Callable[[], None], runtime: Runtime) -> float:
    """The wall time of one call."""
    finish(runtime.device)
    started = time.perf_counter()
    call()
    finish(runtime.device)
    return time.perf_counter() - started
