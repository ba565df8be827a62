"""The cost of a run before it starts: parameters, FLOPs, memory by part, time, disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from seedbed.base.described import Described
from seedbed.base.errors import ConfigError
from seedbed.base.hardware import Hardware, ResidentPeak
from seedbed.base.runtime import Runtime
from seedbed.base.units import bytes_text, count_text, seconds_text
from seedbed.data.loader import MixturePart
from seedbed.data.objective import Objective
from seedbed.models.family import Config, Network
from seedbed.select.compute import forward_flops, parameters_by_part, training_flops
from seedbed.select.measured import MeasuredSteps, seconds_to_save
from seedbed.select.obstacle import NOTHING, Lighter, obstacle_of
from seedbed.select.samples import even_mixture
from seedbed.training.optimizer import trainable
from seedbed.training.resume import checkpointed
from seedbed.training.settings import TrainingSettings

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


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan(Described):
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
    precision: str = ""  # empty in legacy plans
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

    def _facts(self) -> dict[str, str]:
        low, high = (share * self.seconds for share in self.spread)
        facts = {"does not fit": self.obstacle} if self.obstacle else {}
        return facts | {
            "parameters": count_text(self.parameters),
            "steps": f"{self.num_steps:,} of {self.batch_tokens:,} tokens",
            "time": f"about {seconds_text(self.seconds)} ({seconds_text(low)} to {seconds_text(high)})",
            "peak memory": f"about {bytes_text(self.peak_bytes)}",
            "compute": f"{self.flops:.2e} FLOPs",
            "disk": f"about {bytes_text(self.disk_bytes)}",
        }

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
    saves_adapter: bool = False,
    lighter: Mapping[str, Lighter] = NOTHING,
) -> Plan:
    """Predict the training of a network, which may be on the meta device and is not changed.

    `mixture` has the records (empty: rows as long as the context), of which `data_bytes` are mapped;
    `resident` measures the memory above the imports; `folder` is on the disk of the run. The result is what
    trains if it `saves_adapter`; `lighter`: other ways to begin. Takes seconds, or a tenth of a budget.
    """
    _require_positions(network.config, row_tokens := training.context_tokens)
    mixture = mixture or even_mixture(objective, row_tokens, network.config.vocab_size)
    how: dict[str, Any] = {"hardware": hardware, "runtime": runtime, "resident": resident}
    steps = MeasuredSteps(network, training, mixture=mixture, **how)
    precision = steps.precision()
    (times, age), at_peak = steps.times(precision), steps.bytes(precision)
    trained_bytes = sum(tensor.nbytes for tensor in checkpointed(network).values())
    saved_bytes = trained_bytes + at_peak.parts["optimizer"]
    each: dict[str, Any] = {"num_tokens": 1, "row_tokens": row_tokens, "shares": times.shares}
    computing = training_flops(network, **each, recomputes=training.checkpoint_activations)
    result_bytes = trained_bytes if saves_adapter else at_peak.parts["weights"]
    every = {"data": data_bytes, "libraries": at_peak.library_bytes, "allocator": at_peak.heap_bytes}
    parts = {part: size for part in PARTS if (size := (at_peak.parts | every).get(part))}
    return Plan(
        parameters=sum(p.numel() for p in network.parameters()),
        trainable_parameters=sum(p.numel() for p in trainable(network).values()),
        parameters_by_part=parameters_by_part(network),
        bytes=parts,
        peak_bytes=max(sum(parts.values()), at_peak.before_bytes),
        seconds=0.0,
        flops=computing * training.batch_tokens * training.num_steps,
        flops_per_token=forward_flops(network, row_tokens=row_tokens, shares=times.shares),
        disk_bytes=_written_bytes(training, saved_bytes, trained_bytes + result_bytes) + data_bytes,
        num_steps=training.num_steps,
        batch_tokens=training.batch_tokens,
        step_seconds=times.step_seconds,
        evaluation_seconds=0.0,
        validation_seconds=times.reading_seconds * validation_tokens / runtime.world_size,
        validation_tokens=validation_tokens,
        evaluates_first=evaluates_first,
        checkpoint_seconds=seconds_to_save(saved_bytes, folder),
        peak_tokens_per_second=hardware.matmul_flops[precision] / training_flops(network, **each),
        hardware=hardware.to_dict(),
        precision=precision,
        spread=times.spread,
        age_seconds=age,
        obstacle=obstacle_of(parts, steps, precision, lighter),
    ).for_settings(training)


def _written_bytes(training: TrainingSettings, saved_bytes: int, best_bytes: int) -> int:
    """The kept checkpoints and one being written; the best weights and the result, each also twice."""
    return (training.keep_checkpoints + 1) * saved_bytes + 2 * best_bytes


def _require_positions(config: Config, context_tokens: int) -> None:
    if config.max_positions is not None and context_tokens > config.max_positions:
        raise ConfigError(
            f"training.context_tokens={context_tokens} is more than the model's max_positions="
            f"{config.max_positions}; lower the first or raise the second"
        )
