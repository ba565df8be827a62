"""The settings of a training, whatever the model and the objective, and its learning rate; loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seedbed.base.errors import ConfigError

SCHEDULES = ("constant", "cosine", "inverse_sqrt", "wsd")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The `[training]` table of a run's settings; the machine decides `auto` and 0 before step 1."""

    num_steps: int = 1000
    budget_seconds: float | None = None  # if set, determines num_steps
    batch_tokens: int = 8192  # input tokens of one step, over all ranks
    micro_batch_tokens: int = 0  # of one forward and backward pass; 0: all at once
    context_tokens: int = 256
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    matrix_learning_rate: float = 0.02  # of the matrices that muon updates
    min_learning_rate_ratio: float = 0.1
    schedule: str = "cosine"
    warmup_steps: int | None = None  # none: a tenth of num_steps, at most 100
    cooldown_fraction: float = 0.2  # of the steps; wsd alone
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0  # 0: off
    precision: str = "auto"
    seed: int = 0
    evaluate_every_steps: int = 100
    checkpoint_every_steps: int = 100
    keep_checkpoints: int = 2
    average_checkpoints: int | None = None  # number of last ones whose mean is also evaluated
    compile: bool = False
    checkpoint_activations: bool = False
    num_threads: int = 0

    def __post_init__(self) -> None:
        counts = ("num_steps", "batch_tokens", "context_tokens", "evaluate_every_steps")
        for name in (*counts, "checkpoint_every_steps", "keep_checkpoints"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("micro_batch_tokens", "weight_decay", "clip_norm", "num_threads"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("learning_rate", "matrix_learning_rate"):
            self._require(name, 0 < getattr(self, name) < float("inf"), "above 0")
        for name in ("min_learning_rate_ratio", "cooldown_fraction"):
            self._require(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        for name in ("beta1", "beta2"):
            self._require(name, 0 <= getattr(self, name) < 1, "0 or more and below 1")
        for name, choices in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            self._require(name, getattr(self, name) in choices, ", ".join(choices))
        self._require("seed", 0 <= self.seed < 2**63, "0 or more, of 63 bits")
        averaged, kept = self.average_checkpoints, self.keep_checkpoints
        if averaged is not None and not 2 <= averaged <= kept:
            raise ConfigError(
                f"training.average_checkpoints={averaged} is not allowed with keep_checkpoints={kept}; "
                "choose 2 or more, and keep at least as many"
            )
        if self.context_tokens > self.batch_tokens:
            raise ConfigError(
                f"training.context_tokens={self.context_tokens} is more than training.batch_tokens="
                f"{self.batch_tokens}; raise batch_tokens to at least {self.context_tokens}"
            )
        self._require("warmup_steps", self.num_warmup_steps >= 0, "0 or more")
        if self.budget_seconds is None:  # a budget's steps are not known yet
            self.require_warmup()

    def require_warmup(self) -> None:
        """Raise ConfigError if the warm-up takes all of the steps."""
        if self.num_warmup_steps >= self.num_steps:
            raise ConfigError(
                f"training.warmup_steps={self.warmup_steps} leaves no step of num_steps={self.num_steps} at "
                f"the full learning rate; choose 0 to {self.num_steps - 1}"
            )

    @property
    def num_warmup_steps(self) -> int:
        """The steps over which the learning rate rises."""
        return min(100, self.num_steps // 10) if self.warmup_steps is None else self.warmup_steps

    def _require(self, name: str, is_allowed: bool, allowed: str) -> None:
        if not is_allowed:
            raise ConfigError(f"training.{name}={getattr(self, name)} is not allowed: choose {allowed}")


def learning_rate_factor(settings: TrainingSettings, step: int) -> float:
    """The factor in 0..1 of the highest learning rate at step 0, 1, ...: linear warm-up, then the schedule.

    cosine: half a cosine down to min_learning_rate_ratio (Loshchilov and Hutter 1608.03983, without
    restarts). wsd: stable, then linear down to it over the last cooldown_fraction of the steps (Hu et al.
    2404.06395). inverse_sqrt: the inverse square root of the step (Vaswani et al. 1706.03762). constant:
    neither.
    """
    warmup, num_steps = settings.num_warmup_steps, settings.num_steps
    lowest = settings.min_learning_rate_ratio
    if step < warmup:
        return (step + 1) / (warmup + 1)
    match settings.schedule:
        case "cosine":
            progress = (step - warmup) / (num_steps - warmup)
            return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * progress))
        case "wsd":
            cooldown = min(settings.cooldown_fraction * num_steps, num_steps - warmup)
            left = min(1.0, (num_steps - step) / cooldown) if cooldown else 1.0
            return lowest + (1 - lowest) * left
        case "inverse_sqrt":
            return math.sqrt((warmup + 1) / (step + 1))
        case _:
            return 1.0
