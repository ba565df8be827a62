"""The cost of a run before it starts: parameters, FLOPs, memory by part, time, disk."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from seedbed import __version__
from seedbed.base.errors import ConfigError
from seedbed.base.hardware import Hardware, ResidentPeak
from seedbed.base.kept import kept
from seedbed.base.runtime import Runtime
from seedbed.base.threads import has_tight_heap
from seedbed.data.loader import MixturePart
from seedbed.data.objective import Objective
from seedbed.models.family import Config, Network
from seedbed.select.compute import forward_flops, parameters_by_part, training_flops
from seedbed.select.rehearsal import MOST_SECONDS, rehearse
from seedbed.select.result import RehearsalResult
from seedbed.select.samples import SampledBatches, even_mixture
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.optimizer import trainable
from seedbed.training.resume import checkpointed
from seedbed.training.run_folder import TIMED
from seedbed.training.settings import TrainingSettings

# Memory of a process beside its tensors, if it cannot be measured: loaded kernels, libraries' workspaces.
LIBRARY_BYTES = 60 * 2**20
# Between quick and slow steps, as on a busy machine: beyond it a rehearsal is kept for so many seconds alone.
UNSURE, UNSURE_SECONDS = 2.0, 600.0
HURRIED = 0.7  # of the seconds that there are now: a rehearsal for a short budget is made again with more
SAVED_BYTES = 2**25
# The parts of the memory, in the order in which they are shown.
PARTS = (
    "weights",
    "optimizer",
    "gradients",
    "activations",
    "logits",
    "temporary",
    "data",
    "libraries",
    "allocator",
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A prediction: bytes by part at the peak, above the state after the imports; seconds.

    `bytes` has the `PARTS` in their order; their sum is `peak_bytes`, unless the process used more before.
    Gradients and activations are those that exist at the peak.
    """

    parameters: int
    trainable_parameters: int
    parameters_by_part: dict[str, int]
    bytes: dict[str, int]
    peak_bytes: int
    seconds: float  # of the whole training with its evaluations and checkpoints
    flops: float
    flops_per_token: dict[str, float]  # of a forward pass, by part
    disk_bytes: int
    num_steps: int
    batch_tokens: int
    step_seconds: float
    evaluation_seconds: float
    validation_seconds: float  # of an evaluation on all held-out records, which have `validation_tokens`
    validation_tokens: int
    checkpoint_seconds: float
    peak_tokens_per_second: float
    hardware: dict[str, Any]
    spread: tuple[float, float] = (0.8, 1.25)  # of the time, as shares of `seconds`
    evaluates_first: bool = False  # before step 1, as a base is
    age_seconds: float = 0.0  # of the measured times
    obstacle: str = ""  # what does not fit on this machine, and what would
    generation: dict[str, Any] | None = None  # the cost of the model in use, if it was requested

    def for_settings(self, training: TrainingSettings) -> Plan:
        """The plan with other numbers of steps, evaluations and checkpoints."""
        num_steps, every = training.num_steps, training.checkpoint_every_steps
        reading = self._evaluation_seconds(training)
        num_evaluations = -(-num_steps // training.evaluate_every_steps) + self.evaluates_first
        num_evaluations = num_evaluations if reading else 0
        num_checkpoints = -(-num_steps // every)
        # An evaluation that is the best so far writes the trainable weights, a part of a checkpoint.
        trained_bytes = 4 * self.trainable_parameters
        share = trained_bytes / (trained_bytes + self.bytes["optimizer"])
        seconds = self.step_seconds * num_steps + reading * num_evaluations
        seconds += self.checkpoint_seconds * (num_checkpoints + share * num_evaluations)
        flops = self.flops / self.num_steps * num_steps
        return replace(self, num_steps=num_steps, seconds=seconds, flops=flops, evaluation_seconds=reading)

    def _evaluation_seconds(self, training: TrainingSettings) -> float:
        """Seconds of an evaluation, which reads a sample of the held-out records or all of them."""
        most = training.evaluate_tokens
        most = training.affordable_evaluate_tokens() if most is None else most
        all_of_them = self.validation_tokens
        share = min(1.0, most / all_of_them) if most and all_of_them else 1.0
        return share * self.validation_seconds

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON."""
        low, high = (share * self.seconds for share in self.spread)
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"seconds_range": (low, high)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan | None:
        """The plan from the values of `to_dict`, further keys ignored; None if a field is missing."""
        # In legacy plans all parameters train, and an evaluation reads all held-out records.
        defaults: dict[str, Any] = {"trainable_parameters": values.get("parameters")}
        defaults |= {"validation_seconds": values.get("evaluation_seconds"), "validation_tokens": 0}
        values = defaults | dict(values)
        values = {f.name: f.default for f in fields(cls) if f.default is not MISSING} | values
        names = [f.name for f in fields(cls)]
        return cls(**{name: values[name] for name in names}) if values.keys() >= set(names) else None


def plan_training(
    network: Network,
    training: TrainingSettings,
    *,
    hardware: Hardware,
    runtime: Runtime,
    objective: Objective,
    mixture: Sequence[MixturePart] = (),
    validation_tokens: int = 0,
    evaluates_first: bool = False,
    data_bytes: int = 0,
    resident: ResidentPeak | None = None,
    folder: Path | None = None,
    seconds: float = MOST_SECONDS,
) -> Plan:
    """Predict the training of a network, which may be on the meta device and is not changed, by a rehearsal.

    `mixture` has the records (empty: rows as long as the context), of which `data_bytes` are mapped from
    disk; `resident` measures the process's memory above its imports; `folder` is on the disk of the run.
    What does not fit on this machine is found apart, by `obstacle_of`. A rehearsal of the same steps, of at
    most about `seconds`, is kept on disk for a day.
    """
    _require_positions(network.config, row_tokens := training.context_tokens)
    how: dict[str, Any] = {"hardware": hardware, "runtime": runtime, "resident": resident, "seconds": seconds}
    mixture = mixture or even_mixture(objective, row_tokens, network.config.vocab_size)
    found, before_bytes, library_bytes, age = _kept_rehearsal(network, training, mixture=mixture, **how)
    counts = parameters_by_part(network)
    trained_bytes = sum(tensor.nbytes for tensor in checkpointed(network).values())
    saved_bytes = trained_bytes + found.parts["optimizer"]
    each: dict[str, Any] = {"num_tokens": 1, "row_tokens": row_tokens, "shares": found.shares}
    learning = training_flops(network, **each)
    computing = training_flops(network, **each, recomputes=training.checkpoint_activations)
    reading = found.reading + found.sampling / found.step_tokens
    # The kept checkpoints and one being written; the best weights and the bundle, each also twice.
    best_bytes = 2 * (trained_bytes + found.parts["weights"])
    every = found.parts | {"data": data_bytes, "libraries": library_bytes, "allocator": found.heap_bytes}
    parts = {part: size for part in PARTS if (size := every.get(part))}
    return Plan(
        parameters=sum(counts.values()),
        trainable_parameters=sum(p.numel() for p in trainable(network).values()),
        parameters_by_part=counts,
        bytes=parts,
        peak_bytes=max(sum(parts.values()), _used_before(before_bytes, resident)),
        seconds=0.0,
        flops=computing * training.batch_tokens * training.num_steps,
        flops_per_token=forward_flops(network, row_tokens=row_tokens, shares=found.shares),
        disk_bytes=(training.keep_checkpoints + 1) * saved_bytes + best_bytes + data_bytes,
        num_steps=training.num_steps,
        batch_tokens=training.batch_tokens,
        step_seconds=found.learning * found.step_tokens + found.update + found.sampling,
        evaluation_seconds=0.0,
        validation_seconds=reading * validation_tokens / runtime.world_size,
        validation_tokens=validation_tokens,
        evaluates_first=evaluates_first,
        checkpoint_seconds=_seconds_to_save(saved_bytes, folder),
        peak_tokens_per_second=hardware.matmul_flops[runtime.precision] / learning,
        hardware=hardware.to_dict(),
        spread=found.spread,
        age_seconds=age,
    ).for_settings(training)


def _kept_rehearsal(
    network: Network,
    training: TrainingSettings,
    *,
    mixture: Sequence[MixturePart],
    hardware: Hardware,
    runtime: Runtime,
    resident: ResidentPeak | None,
    seconds: float,
) -> tuple[RehearsalResult, int, int, float]:
    """The rehearsal, bytes used before it and beside its tensors, and its age."""
    sampled = SampledBatches(mixture, training, runtime)
    key = _key(network, training, sampled, mixture[0].objective, hardware=hardware, runtime=runtime)
    how: Any = {"mixture": mixture, "sampled": sampled, "runtime": runtime, "seconds": seconds}
    make = partial(_rehearse, network, training, how, resident)
    again = partial(kept, "rehearsal", key, make, read=_read_rehearsal)
    (found, *beside), age = again()
    is_unsure = age > UNSURE_SECONDS and found.slow > UNSURE * found.quick
    if age and (is_unsure or found.seconds < HURRIED * seconds):
        (found, *beside), age = again(renew=True)
    before_bytes, library_bytes = beside
    return found, before_bytes, library_bytes, age


def _read_rehearsal(values: Sequence[Any]) -> tuple[RehearsalResult, int, int]:
    """A kept rehearsal, bytes before it and beside its tensors, from JSON."""
    found, before_bytes, library_bytes = values
    return RehearsalResult.from_dict(found), int(before_bytes), int(library_bytes)


def _used_before(then: int, resident: ResidentPeak | None) -> int:
    """Bytes used before the training, as when its data was prepared, unless it is much more now."""
    now = 0 if resident is None else resident.most()
    return now if now > 1.1 * then else then


def _rehearse(
    network: Network, training: TrainingSettings, how: Mapping[str, Any], resident: ResidentPeak | None
) -> tuple[dict[str, Any], int, int]:
    """The rehearsal, and the bytes that this process used before it and uses beside its tensors after it."""
    before = 0 if resident is None else resident.most()
    found = rehearse(network, training, resident=resident, **how)
    # The rehearsal has loaded the kernels and freed its tensors.
    in_use = 0 if resident is None else max(0, resident.lap())
    is_measured = resident is not None and resident.is_exact
    return asdict(found), before, in_use if is_measured else LIBRARY_BYTES


def _key(
    network: Network,
    training: TrainingSettings,
    sampled: SampledBatches,
    objective: Objective,
    *,
    hardware: Hardware,
    runtime: Runtime,
) -> dict[str, Any]:
    """Everything on which a rehearsal depends."""
    learns = [(n, tuple(p.shape), str(p.dtype), p.requires_grad) for n, p in network.named_parameters()]
    names = ("batch_tokens", "micro_batch_tokens", "context_tokens", "optimizer", "checkpoint_activations")
    shapes = [[(batch.num_tokens, batch.num_targets) for batch in step] for step in sampled.steps]
    own = {"config": asdict(network.config), "learns": learns, "shapes": shapes}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    machine = [hardware.cpu, hardware.torch, hardware.num_threads, str(runtime.device), has_tight_heap()]
    return {
        "version": [__version__, *(field.name for field in fields(RehearsalResult))],
        "network": digest,
        "training": [getattr(training, name) for name in names],
        "objective": type(objective).__name__,
        "runtime": [runtime.precision, runtime.world_size],
        "machine": machine,
    }


def _seconds_to_save(num_bytes: int, folder: Path | None) -> float:
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


def _require_positions(config: Config, context_tokens: int) -> None:
    if config.max_positions is not None and context_tokens > config.max_positions:
        raise ConfigError(
            f"training.context_tokens={context_tokens} is more than the model's max_positions="
            f"{config.max_positions}; lower the first or raise the second"
        )
