"""The cost of a run before it starts: parameters, FLOPs, memory by part, time, disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from seedbed.base.errors import ConfigError
from seedbed.base.hardware import Hardware, ResidentPeak
from seedbed.base.runtime import Runtime
from seedbed.data.loader import MixturePart
from seedbed.data.objective import Objective
from seedbed.models.family import Config, Network
from seedbed.select.compute import forward_flops, parameters_by_part, training_flops
from seedbed.select.rehearsal import even_mixture, rehearse
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.optimizer import trainable
from seedbed.training.resume import checkpointed
from seedbed.training.run_folder import TIMED
from seedbed.training.settings import TrainingSettings

# Memory of a process beside its tensors, if it cannot be measured: loaded kernels, libraries' workspaces.
LIBRARY_BYTES = 60 * 2**20
SAVED_BYTES = 2**25


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A prediction: bytes by part at the peak, above the state after the imports; seconds.

    `bytes` has weights, gradients, optimizer, activations, logits, temporary, libraries, allocator, data;
    their sum is `peak_bytes`, unless the process used more before.
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
    generation: dict[str, Any] | None = None  # the cost of the model in use, if it was requested

    def for_settings(self, training: TrainingSettings) -> Plan:
        """The plan with other numbers of steps, evaluations and checkpoints."""
        num_steps, every = training.num_steps, training.checkpoint_every_steps
        reading = self._evaluation_seconds(training)
        num_evaluations = -(-num_steps // training.evaluate_every_steps) if reading else 0
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

    def above(self, resident: ResidentPeak) -> Plan:
        """The plan with the measured memory of this process, before its network exists, as `libraries`."""
        # The rehearsal has loaded the kernels and freed its tensors; its own peak may be the highest.
        in_use = resident.lap()
        parts = self.bytes | ({"libraries": max(0, in_use)} if resident.is_exact else {})
        return replace(self, bytes=parts, peak_bytes=max(sum(parts.values()), resident.most()))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan | None:
        """The plan from the values of `to_dict`, further keys ignored; None if a field is missing."""
        # In legacy plans all parameters train, and an evaluation reads all held-out records.
        defaults: dict[str, Any] = {"generation": None, "trainable_parameters": values.get("parameters")}
        defaults |= {"validation_seconds": values.get("evaluation_seconds"), "validation_tokens": 0}
        values = defaults | dict(values)
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
    data_bytes: int = 0,
    resident: ResidentPeak | None = None,
    folder: Path | None = None,
) -> Plan:
    """Predict the training of a network, which may be on the meta device and is not changed, by a rehearsal.

    `mixture` has the records (empty: rows as long as the context), of which `data_bytes` are mapped from
    disk; `resident` measures the process's memory above its imports; `folder` is on the disk of the run.
    """
    row_tokens = training.context_tokens
    _require_positions(network.config, row_tokens)
    found = rehearse(
        network,
        training,
        mixture=mixture or even_mixture(objective, row_tokens, network.config.vocab_size),
        runtime=runtime,
        resident=resident,
    )
    parts, counts = found.parts, parameters_by_part(network)
    trained_bytes = sum(tensor.nbytes for tensor in checkpointed(network).values())
    saved_bytes = trained_bytes + parts["optimizer"]
    each: dict[str, Any] = {"num_tokens": 1, "row_tokens": row_tokens, "shares": found.shares}
    learning = training_flops(network, **each)
    computing = training_flops(network, **each, recomputes=training.checkpoint_activations)
    sampling = found.sampling / found.step_tokens
    # The kept checkpoints and one being written; the best weights and the bundle, each also twice.
    disk_bytes = (training.keep_checkpoints + 1) * saved_bytes + 2 * (trained_bytes + parts["weights"])
    parts = parts | {"libraries": LIBRARY_BYTES, "allocator": found.heap_bytes}
    parts |= {"data": data_bytes} if data_bytes else {}
    plan = Plan(
        parameters=sum(counts.values()),
        trainable_parameters=sum(p.numel() for p in trainable(network).values()),
        parameters_by_part=counts,
        bytes=parts,
        peak_bytes=sum(parts.values()),
        seconds=0.0,
        flops=computing * training.batch_tokens * training.num_steps,
        flops_per_token=forward_flops(network, row_tokens=row_tokens, shares=found.shares),
        disk_bytes=disk_bytes + data_bytes,
        num_steps=training.num_steps,
        batch_tokens=training.batch_tokens,
        step_seconds=found.learning * found.step_tokens + found.update + found.sampling,
        evaluation_seconds=0.0,
        validation_seconds=(found.reading + sampling) * validation_tokens / runtime.world_size,
        validation_tokens=validation_tokens,
        checkpoint_seconds=_seconds_to_save(saved_bytes, folder),
        peak_tokens_per_second=hardware.matmul_flops[runtime.precision] / learning,
        hardware=hardware.to_dict(),
    )
    return (plan if resident is None else plan.above(resident)).for_settings(training)


def _seconds_to_save(num_bytes: int, folder: Path | None) -> float:
    """Seconds to write a checkpoint, from the times of an empty one and of one of `SAVED_BYTES`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=TIMED) as place:
        checkpoints = Checkpoints(Path(place))
        seconds = []
        for size in (1, min(num_bytes, SAVED_BYTES)):
            tensors = {"weights": {"timed": torch.ones(size // 4 + 1)}}
            started = time.perf_counter()
            checkpoints.save(size, tensors, {})
            seconds.append(time.perf_counter() - started)
    return seconds[0] + max(0.0, seconds[1] - seconds[0]) * num_bytes / min(num_bytes, SAVED_BYTES)


def _require_positions(config: Config, context_tokens: int) -> None:
    if config.max_positions is not None and context_tokens > config.max_positions:
        raise ConfigError(
            f"training.context_tokens={context_tokens} is more than the model's max_positions="
            f"{config.max_positions}; lower the first or raise the second"
        )
