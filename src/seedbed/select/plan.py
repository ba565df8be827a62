"""What a run will cost before it starts: parameters, FLOPs, memory by part, time, disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from seedbed.base.errors import ConfigError
from seedbed.base.hardware import Hardware, ResidentPeak
from seedbed.base.runtime import Runtime
from seedbed.data.loader import MixturePart
from seedbed.data.objective import Objective
from seedbed.models.family import Config
from seedbed.select.compute import forward_flops, parameters_by_part, training_flops
from seedbed.select.decoding import decode_at_depth
from seedbed.select.measure import seconds_to_save
from seedbed.select.rehearsal import even_mixture, rehearse
from seedbed.training.settings import TrainingSettings

# What a process takes beside its tensors once it computes, where it cannot be measured: kernels that are
# loaded, the libraries' workspaces.
LIBRARY_BYTES = 60 * 2**20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A prediction: bytes by part at the highest moment, above the state after the imports; seconds.

    `bytes` has weights, gradients, optimizer, activations, logits, temporary, libraries, allocator, data;
    their sum is `peak_bytes`, unless the process took more before. `seconds` is the whole training with its
    evaluations and checkpoints; one of each takes `step_seconds`, `evaluation_seconds`,
    `checkpoint_seconds`.
    """

    parameters: int
    parameters_by_part: dict[str, int]
    bytes: dict[str, int]
    peak_bytes: int
    seconds: float
    flops: float
    flops_per_token: dict[str, float]  # of a forward pass, by part
    disk_bytes: int
    num_steps: int
    batch_tokens: int
    step_seconds: float
    evaluation_seconds: float
    checkpoint_seconds: float
    peak_tokens_per_second: float
    hardware: dict[str, Any]

    def for_settings(self, training: TrainingSettings) -> Plan:
        """The same run with other numbers of steps, evaluations and checkpoints."""
        num_steps, every = training.num_steps, training.checkpoint_every_steps
        num_evaluations = -(-num_steps // training.evaluate_every_steps) if self.evaluation_seconds else 0
        num_checkpoints = -(-num_steps // every)
        # An evaluation that is the best yet writes the weights, a part of a checkpoint.
        share = self.parameters * 4 / (self.parameters * 4 + self.bytes["optimizer"])
        seconds = self.step_seconds * num_steps + self.evaluation_seconds * num_evaluations
        seconds += self.checkpoint_seconds * (num_checkpoints + share * num_evaluations)
        flops = self.flops / self.num_steps * num_steps
        return replace(self, num_steps=num_steps, seconds=seconds, flops=flops)

    def above(self, resident: ResidentPeak) -> Plan:
        """The same run in this process: above what it holds now, before the network is there.

        Kernels are loaded and the rehearsal is forgotten; a peak that is over already may be the highest.
        """
        held = resident.lap()
        parts = self.bytes | ({"libraries": max(0, held)} if resident.is_exact else {})
        return replace(self, bytes=parts, peak_bytes=max(sum(parts.values()), resident.most()))

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan | None:
        """The plan that `to_dict` gave, whatever was added since; None where a part of it is missing."""
        names = [f.name for f in fields(cls)]
        return cls(**{name: values[name] for name in names}) if values.keys() >= set(names) else None


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """A prediction of answers to several prompts at once: bytes by part, seconds by phase."""

    parameters: int
    bytes: dict[str, int]
    peak_bytes: int
    seconds: float
    prompt_seconds: float
    step_seconds: float
    tokens_per_second: float  # of all rows together, once the prompts are read
    hardware: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def forward_flops_per_token(config: Config, context_tokens: int) -> float:
    """FLOPs of a token's forward pass, on average over a row of `context_tokens`."""
    return sum(forward_flops(config, row_tokens=context_tokens).values())


def plan_training(
    config: Config,
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
    """Predict a training from its configuration and a rehearsal of it.

    `mixture` has its records (none: rows as long as the context), of which `data_bytes` are mapped from disk;
    `resident` counts what the process holds above its imports, before its network is there; `folder` is on
    the disk of the run.
    """
    row_tokens = training.context_tokens
    _require_positions(config, row_tokens)
    found = rehearse(
        config,
        training,
        mixture=mixture or even_mixture(objective, row_tokens, config.vocab_size),
        runtime=runtime,
        resident=resident,
    )
    costs, parts = found.costs, found.parts
    counts = parameters_by_part(config)
    saved_bytes = parts["weights"] + parts["optimizer"]
    each: dict[str, Any] = {"num_tokens": 1, "row_tokens": row_tokens, "shares": found.shares}
    learning = training_flops(config, **each)
    computing = training_flops(config, **each, recomputes=training.checkpoint_activations)
    drawing = costs.drawing / found.step_tokens
    checkpoint_seconds = seconds_to_save(saved_bytes, folder)
    parts = parts | {"libraries": LIBRARY_BYTES, "allocator": found.heap_bytes}
    parts |= {"data": data_bytes} if data_bytes else {}
    plan = Plan(
        parameters=sum(counts.values()),
        parameters_by_part=counts,
        bytes=parts,
        peak_bytes=sum(parts.values()),
        seconds=0.0,
        flops=computing * training.batch_tokens * training.num_steps,
        flops_per_token=forward_flops(config, row_tokens=row_tokens, shares=found.shares),
        # The checkpoints that are kept and one aside, the best weights and theirs, the bundle and its own.
        disk_bytes=(training.keep_checkpoints + 1) * saved_bytes + 4 * parts["weights"] + data_bytes,
        num_steps=training.num_steps,
        batch_tokens=training.batch_tokens,
        step_seconds=costs.learning * found.step_tokens + costs.update + costs.drawing,
        evaluation_seconds=(costs.reading + drawing) * validation_tokens / runtime.world_size,
        checkpoint_seconds=checkpoint_seconds,
        peak_tokens_per_second=hardware.matmul_flops[runtime.precision] / learning,
        hardware=hardware.to_dict(),
    )
    return (plan if resident is None else plan.above(resident)).for_settings(training)


def _require_positions(config: Config, context_tokens: int) -> None:
    if config.max_positions is not None and context_tokens > config.max_positions:
        raise ConfigError(
            f"training.context_tokens={context_tokens} is more than the model's max_positions="
            f"{config.max_positions}; lower the one or raise the other"
        )


def plan_generation(
    config: Config,
    *,
    hardware: Hardware,
    runtime: Runtime,
    num_rows: int = 1,
    prompt_tokens: int = 32,
    max_new_tokens: int = 64,
) -> GenerationPlan:
    """Predict answers to `num_rows` prompts of `prompt_tokens` that are read and continued together."""
    capacity = prompt_tokens + max_new_tokens
    cost = decode_at_depth(
        config, num_rows=num_rows, prompt_tokens=prompt_tokens, capacity=capacity, runtime=runtime
    )
    parts = cost.bytes | {"libraries": LIBRARY_BYTES}
    return GenerationPlan(
        parameters=sum(parameters_by_part(config).values()),
        bytes=parts,
        peak_bytes=sum(parts.values()),
        seconds=cost.prompt + cost.step * max_new_tokens,
        prompt_seconds=cost.prompt,
        step_seconds=cost.step,
        tokens_per_second=num_rows / cost.step,
        hardware=hardware.to_dict(),
    )
