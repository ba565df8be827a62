"""The measured times and bytes of a training's steps, kept on disk for a day."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from seedbed import __version__
from seedbed.base.hardware import Hardware, ResidentPeak, memory
from seedbed.base.kept import Kept, kept
from seedbed.base.runtime import Runtime
from seedbed.base.threads import has_tight_heap
from seedbed.data.loader import MixturePart
from seedbed.models.family import Network
from seedbed.select.heap import UntouchedHeap
from seedbed.select.layers import outline_of
from seedbed.select.rehearsal import MOST_SECONDS, step_times
from seedbed.select.result import StepBytes, StepTimes
from seedbed.select.samples import SampledBatches
from seedbed.select.step_bytes import step_bytes
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.optimizer import require_trainable
from seedbed.training.run_folder import TIMED
from seedbed.training.settings import TrainingSettings

# Between quick and slow steps, as on a busy machine: beyond it times are kept for so many seconds alone.
UNSURE, UNSURE_SECONDS = 2.0, 600.0
HURRIED = 0.7  # of the seconds that there are now: times for a short budget are measured again with more
SAVED_BYTES = 2**25
MUCH_MORE = 1.1  # than was used when the bytes were measured: then it is what is used now
BUDGET_SHARE = 0.1  # of a budget, for measuring


class MeasuredSteps:
    """The times and bytes of a training's steps in any precision; what is not kept is measured.

    `resident` measures the process's memory above its imports. Errors: UsageError if nothing trains.
    """

    def __init__(
        self,
        network: Network,
        training: TrainingSettings,
        *,
        mixture: Sequence[MixturePart],
        hardware: Hardware,
        runtime: Runtime,
        resident: ResidentPeak | None = None,
    ) -> None:
        require_trainable(network)
        self.network, self.training, self.mixture = network, training, mixture
        self.hardware, self.runtime, self.resident = hardware, runtime, resident
        self.sampled = SampledBatches(mixture, training, runtime)
        self._compares = training.precision == "auto" and hardware.precision != "float32"
        budget = training.budget_seconds
        seconds = MOST_SECONDS if budget is None else min(MOST_SECONDS, BUDGET_SHARE * budget)
        self._seconds = seconds / 2 if self._compares else seconds
        self._key, self._times = self._everything(), dict[str, Kept]()

    def precision(self) -> str:
        """The precision of the training; for "auto" the faster one, measured on steps of this shape."""
        if not self._compares:
            return "float32" if self.training.precision == "auto" else self.training.precision
        slower, faster = (self.times(kind).value.step_seconds for kind in ("float32", "bfloat16"))
        # Fast matmuls alone do not make fast steps.
        return ("float32", "bfloat16")[self.runtime.broadcast_int(int(faster < 0.9 * slower))]

    def times(self, precision: str) -> Kept:
        """The `StepTimes`, and their age; busy or hurried ones are measured again."""
        if precision not in self._times:
            again = partial(
                kept,
                "step-times",
                self._key | {"precision": precision},
                partial(self._measured_times, precision),
                read=StepTimes.from_dict,
            )
            found, age = again()
            is_unsure = age > UNSURE_SECONDS and found.slow > UNSURE * found.quick
            is_old = age and (is_unsure or found.seconds < HURRIED * self._seconds)
            self._times[precision] = again(renew=True) if is_old else Kept(found, age)
        return self._times[precision]

    def bytes(self, precision: str) -> StepBytes:
        """The bytes at the peak of a step, by its parts, and those that the process uses beside them."""
        times: StepTimes = self.times(precision).value
        is_exact = self.resident is not None and self.resident.is_exact
        has_heap = is_exact and times.used_bytes is None and self.runtime.device.type == "cpu"
        key = self._key | {"precision": precision, "heap": has_heap}
        make = partial(
            self._measured_bytes, precision, UntouchedHeap(at_most=memory()[0]) if has_heap else None
        )
        found: StepBytes = kept("step-bytes", key, make, read=StepBytes.from_dict).value
        library_bytes = max(found.library_bytes, times.library_bytes)
        heap_bytes = found.heap_bytes
        if times.used_bytes is not None:  # the whole network ran
            heap_bytes = max(0, times.used_bytes - sum(found.parts.values()))
        now = 0 if self.resident is None else self.resident.most()
        before_bytes = now if now > MUCH_MORE * found.before_bytes else found.before_bytes
        return replace(found, heap_bytes=heap_bytes, library_bytes=library_bytes, before_bytes=before_bytes)

    def _measured_times(self, precision: str) -> dict[str, Any]:
        found = step_times(
            self.network,
            self.training,
            mixture=self.mixture,
            runtime=replace(self.runtime, precision=precision),
            resident=self.resident,
            sampled=self.sampled,
            seconds=self._seconds,
        )
        return asdict(found)

    def _measured_bytes(self, precision: str, heap: UntouchedHeap | None) -> dict[str, Any]:
        found = step_bytes(
            outline_of(self.network),
            training=self.training,
            sampled=self.sampled,
            objective=self.mixture[0].objective,
            precision=precision,
            heap=heap,
        )
        if self.resident is None:
            return asdict(found)
        in_use = max(0, self.resident.lap()) if self.resident.is_exact else 0
        return asdict(replace(found, library_bytes=in_use, before_bytes=self.resident.most()))

    def _everything(self) -> dict[str, Any]:
        """Everything on which the figures depend but the precision."""
        network, hardware = self.network, self.hardware
        learns = [(n, tuple(p.shape), str(p.dtype), p.requires_grad) for n, p in network.named_parameters()]
        shapes = [[(batch.num_tokens, batch.num_targets) for batch in step] for step in self.sampled.steps]
        own = {"config": asdict(network.config), "learns": learns, "shapes": shapes}
        names = (
            "batch_tokens",
            "micro_batch_tokens",
            "context_tokens",
            "optimizer",
            "checkpoint_activations",
        )
        machine = [hardware.cpu, hardware.torch, hardware.num_threads, str(self.runtime.device)]
        return {
            "version": [
                __version__,
                *(field.name for kind in (StepTimes, StepBytes) for field in fields(kind)),
            ],
            "network": hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest(),
            "training": [getattr(self.training, name) for name in names],
            "objective": type(self.mixture[0].objective).__name__,
            "world_size": self.runtime.world_size,
            "machine": [*machine, has_tight_heap()],
        }


def seconds_to_save(num_bytes: int, folder: Path | None) -> float:
    """Seconds to write a checkpoint, from the times of an empty one and of one of `SAVED_BYTES`."""

    def measure() -> list[float]:
        with tempfile.TemporaryDirectory(dir=folder, prefix=TIMED) as place:
            checkpoints = Checkpoints(Path(place))
            seconds = []
            for size in (1, SAVED_BYTES):
                tensors = {"weights": {"timed": torch.ones(size // 4 + 1)}}
                started = time.perf_counter()
                checkpoints.save(size, tensors, {})
                seconds.append(time.perf_counter() - started)
        return seconds

    disk = Path(folder or tempfile.gettempdir()).stat().st_dev
    key = {"device": disk, "bytes": SAVED_BYTES}
    (empty, large), _ = kept("disk", key, measure, read=lambda values: (float(values[0]), float(values[1])))
    return float(empty + max(0.0, large - empty) * num_bytes / SAVED_BYTES)
