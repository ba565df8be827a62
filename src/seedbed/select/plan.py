"""What a run will cost before it starts: parameters, FLOPs, memory by part, time, disk."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from seedbed.base.errors import ConfigError
from seedbed.base.hardware import Hardware
from seedbed.base.runtime import Runtime
from seedbed.models.family import Config
from seedbed.nn.config import RecurrentConfig
from seedbed.select.compute import forward_flops, parameters_by_part, training_flops
from seedbed.select.measure import decode_at_depth, seconds_to_save, step_at_depth
from seedbed.select.memory import even_batch, generation_bytes, training_bytes
from seedbed.training.settings import TrainingSettings
from seedbed.training.train_step import OBJECTIVES, Objective

# What a process takes beside its tensors once it trains: kernels that are loaded, the libraries' workspaces.
LIBRARY_BYTES = 60 * 2**20
# What glibc's heap loses between the tensors that come and go with a step, as a share of them.
HEAP_SLACK = 0.3
# A recurrent network is traced in rows of so many tokens, a step for each: only their sum counts.
TRACED_ROW_TOKENS = 32


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
    step_seconds: float
    evaluation_seconds: float
    checkpoint_seconds: float
    peak_tokens_per_second: float
    hardware: dict[str, Any]

    def for_settings(self, training: TrainingSettings) -> Plan:
        """The same run with other numbers of steps, evaluations and checkpoints."""
        num_steps, every = training.num_steps, training.checkpoint_every_steps
        num_evaluations = -(-num_steps // training.evaluate_every_steps) if self.evaluation_seconds else 0
        num_checkpoints = 1 + -(-num_steps // every)  # one before the first step
        # An evaluation that is the best yet writes the weights, a part of a checkpoint.
        share = self.parameters * 4 / (self.parameters * 4 + self.bytes["optimizer"])
        seconds = self.step_seconds * num_steps + self.evaluation_seconds * num_evaluations
        seconds += self.checkpoint_seconds * (num_checkpoints + share * num_evaluations)
        flops = self.flops / self.num_steps * num_steps
        return replace(self, num_steps=num_steps, seconds=seconds, flops=flops)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


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
    objective: Objective | None = None,
    validation_tokens: int = 0,
    data_bytes: int = 0,
    row_tokens: int | None = None,
    earlier_peak_bytes: int = 0,
    folder: Path | None = None,
) -> Plan:
    """Predict a training from its configuration and a short real measurement of its shape.

    `data_bytes` of shards are read; `row_tokens` is the mean length of a record where that is below the
    context; `earlier_peak_bytes` is what the process already took above its imports; `folder` is on the
    disk of the run.
    """
    objective = objective or OBJECTIVES.get("causal")()
    row_tokens = min(row_tokens or training.context_tokens, training.context_tokens)
    if config.max_positions is not None and row_tokens > config.max_positions:
        raise ConfigError(
            f"training.context_tokens={training.context_tokens} is more than the model's max_positions="
            f"{config.max_positions}; lower the one or raise the other"
        )
    mine = -(-training.batch_tokens // runtime.world_size)
    num_tokens = min(mine, training.micro_batch_tokens or mine)
    cost = step_at_depth(
        config, training, num_tokens=num_tokens, runtime=runtime, objective=objective, row_tokens=row_tokens
    )
    counts = parameters_by_part(config)
    parameters = sum(counts.values())
    parts = _training_parts(
        config, training, num_tokens=num_tokens, row_tokens=row_tokens, runtime=runtime, objective=objective
    )
    parts |= {"data": data_bytes} if data_bytes else {}
    saved_bytes = parts["weights"] + parts["optimizer"]
    learning = training_flops(config, num_tokens=1, row_tokens=row_tokens)
    again = training.checkpoint_activations
    computing = training_flops(config, num_tokens=1, row_tokens=row_tokens, recomputes=again)
    plan = Plan(
        parameters=parameters,
        parameters_by_part=counts,
        bytes=parts,
        peak_bytes=max(sum(parts.values()), earlier_peak_bytes),
        seconds=0.0,
        flops=computing * training.batch_tokens * training.num_steps,
        flops_per_token=forward_flops(config, row_tokens=row_tokens),
        # The checkpoints that are kept and one aside, the best weights and theirs, the bundle and its own.
        disk_bytes=(training.keep_checkpoints + 1) * saved_bytes + 4 * parts["weights"] + data_bytes,
        num_steps=training.num_steps,
        step_seconds=cost.forward_backward * mine / num_tokens + cost.optimizer,
        evaluation_seconds=cost.forward * validation_tokens / num_tokens / runtime.world_size,
        checkpoint_seconds=seconds_to_save(saved_bytes, folder),
        peak_tokens_per_second=hardware.matmul_flops[runtime.precision] / learning,
        hardware=hardware.to_dict(),
    )
    return plan.for_settings(training)


def _training_parts(
    config: Config,
    training: TrainingSettings,
    *,
    num_tokens: int,
    row_tokens: int,
    runtime: Runtime,
    objective: Objective,
) -> dict[str, int]:
    """Bytes by part: the tensors', and what the libraries and the heap take beside them."""
    if isinstance(config, RecurrentConfig):
        row_tokens = min(row_tokens, TRACED_ROW_TOKENS)
    batch = even_batch(num_tokens, row_tokens, vocab_size=config.vocab_size, objective=objective)
    parts = training_bytes(config, training, batch=batch, objective=objective, runtime=runtime)
    passing = sum(parts.values()) - parts["weights"] - parts["optimizer"]
    return parts | {"libraries": LIBRARY_BYTES, "allocator": int(HEAP_SLACK * passing)}


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
    parts = generation_bytes(config, num_rows=num_rows, prompt_tokens=prompt_tokens, capacity=capacity)
    parts["libraries"] = LIBRARY_BYTES
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
