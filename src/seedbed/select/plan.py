"""What a run will cost before it starts: parameters, FLOPs, memory by part, time, disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seedbed.base.hardware import Hardware
from seedbed.base.runtime import Runtime
from seedbed.models.family import Config
from seedbed.models.network import build, parameter_count
from seedbed.nn.config import ModelConfig
from seedbed.nn.linear import Projection
from seedbed.select.measure import step_at_depth
from seedbed.training.settings import TrainingSettings

# What the process takes beside its tensors once it trains: threads, the libraries' workspaces, the
# allocator's
# slack (4 x 128 and 6 x 384 GPT-2 shapes, AVX-512, 2026-11-24).
LIBRARY_BYTES = 60 * 2**20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A prediction: bytes by part and at the peak, above the state after the imports; seconds of training
    steps."""

    parameters: int
    bytes: dict[str, int]
    peak_bytes: int
    seconds: float
    flops: float
    disk_bytes: int
    num_steps: int
    step_seconds: float
    peak_tokens_per_second: float
    hardware: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def forward_flops_per_token(config: Config, context_tokens: int) -> float:
    """FLOPs of one token's forward pass: 2 a weight of every product, and attention over half of the
    context."""
    module = build(config, "meta")
    weights = sum(child.weight.numel() for child in module.modules() if isinstance(child, Projection))
    if config.tie_embeddings:
        weights += config.vocab_size * config.d_model
    attention = 0
    if isinstance(config, ModelConfig):
        attention = (
            2 * config.num_layers * config.num_heads * config.d_head * context_tokens
        )  # q k and its values
    return 2.0 * weights + attention


def plan_training(
    config: Config,
    training: TrainingSettings,
    *,
    hardware: Hardware,
    runtime: Runtime,
    validation_tokens: int = 0,
) -> Plan:
    """Predict a training from its configuration, the probe, and one step at one and at two layers."""
    tokens = (
        min(training.batch_tokens, training.micro_batch_tokens or training.batch_tokens) // runtime.world_size
    )
    at_depth = step_at_depth(config, training, num_tokens=tokens, runtime=runtime)
    num_micro = training.batch_tokens / (tokens * runtime.world_size)
    step_seconds = at_depth.forward_backward * num_micro + at_depth.optimizer
    num_evaluations = training.num_steps // training.evaluate_every_steps + 1
    evaluation_seconds = at_depth.forward * validation_tokens / tokens * num_evaluations
    parameters = parameter_count(config)
    weights = 4 * parameters
    moments = 1 if training.optimizer == "muon" else 2
    parts = {
        "weights": weights,
        "gradients": weights,
        "optimizer": moments * weights,
        "activations": at_depth.saved_bytes,
        "logits": 4 * tokens * config.vocab_size,
        "libraries": LIBRARY_BYTES,
    }
    flops = 3 * forward_flops_per_token(config, training.context_tokens) * training.batch_tokens
    rate = hardware.matmul_flops[runtime.precision]
    return Plan(
        parameters=parameters,
        bytes=parts,
        peak_bytes=sum(parts.values()),
        seconds=step_seconds * training.num_steps + evaluation_seconds,
        flops=flops * training.num_steps,
        # The checkpoints that are kept and one aside, the best weights, the bundle and one aside.
        disk_bytes=(training.keep_checkpoints + 1) * (1 + moments) * weights + 4 * weights,
        num_steps=training.num_steps,
        step_seconds=step_seconds,
        peak_tokens_per_second=rate / (flops / training.batch_tokens),
        hardware=hardware.to_dict(),
    )
