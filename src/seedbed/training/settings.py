"""The settings of a training, whatever the model and the objective, and its learning rate; loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seedbed.base.errors import ConfigError

SCHEDULES = ("constant", "cosine", "inverse_sqrt", "wsd")
LEAST_RATE, TEN_YEARS = 1e-30, 10 * 365.25 * 86400  # what a step multiplies by has to be a float32
MOST_TOKENS = 2**24  # of a step; the largest models had 16 million (Llama 3, 2024)
PRECISIONS = ("auto", "float32", "bfloat16")
LEAST_EVALUATE_TOKENS, MOST_EVALUATE_TOKENS = 2**13, 250_000


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The `[training]` table of a run's settings; the machine decides `auto` and 0 before step 1."""

    num_steps: int = 1000  # length of the training, also --steps [1 to 2**31 - 1]
    # Passes over the training data that end the training, if they are fewer steps; tuning has 3. [above 0]
    num_passes: float | None = None
    # Time limit of the command, also --budget; sets num_steps, which a slow machine lowers. [above 0]
    budget_seconds: float | None = None
    batch_tokens: int = 8192  # input tokens of one step, over all processes; from a base 1,024 [1 to 2**24]
    # Input tokens of one forward and backward pass; 0: all at once, from a base on a CPU 512. [0 or more]
    micro_batch_tokens: int = 0
    # Maximum length of a row; by default not more than batch_tokens and the base allow. [1 or more]
    context_tokens: int = 256
    optimizer: str = "adamw"  # algorithm that updates the weights [a file of seedbed.training.optimizers]
    learning_rate: float = 1e-3  # highest learning rate; from a base a tenth of this [above 0]
    matrix_learning_rate: float = 0.02  # that of muon's matrices; from a base a tenth [above 0]
    min_learning_rate_ratio: float = 0.1  # lowest rate of cosine and wsd, a share of the highest [0 to 1]
    schedule: str = "cosine"  # course of the learning rate after the warm-up [one of SCHEDULES]
    # Steps over which the learning rate rises; not set: a tenth of num_steps, at most 100. [0 or more]
    warmup_steps: int | None = None
    cooldown_fraction: float = 0.2  # last share of the steps, over which wsd lowers the rate [0 to 1]
    weight_decay: float = 0.1  # decay of matrices and embeddings per step, times the rate [0 or more]
    beta1: float = 0.9  # decay of the mean gradient, or momentum [0 or more and below 1]
    beta2: float = 0.95  # decay of the mean squared gradient [0 or more and below 1]
    clip_norm: float = 1.0  # largest norm of the gradients; 0: not clipped [0 or more]
    precision: str = "auto"  # precision of the matmuls; the weights are float32 [one of PRECISIONS]
    seed: int = 0  # seed of weights, order of the data, corruption, dropout [0 or more]
    evaluate_every_steps: int = 100  # steps between evaluations on held-out data [1 or more]
    # Tokens of an evaluation, a fixed sample; 0: all; not set: a tenth of the time together. [0 or more]
    evaluate_tokens: int | None = None
    # Held-out records of a task, answered before and after; 0: none; not set: 50, or 500 labels. [0 or more]
    evaluate_records: int | None = None
    checkpoint_every_steps: int = 100  # steps between checkpoints [1 or more]
    keep_checkpoints: int = 2  # number of last checkpoints that stay on disk [1 or more]
    # Number of last checkpoints whose mean is also evaluated. [2 or more]
    average_checkpoints: int | None = None
    compile: bool = False  # compile the network with torch.compile
    checkpoint_activations: bool = False  # compute activations again in the backward pass, to save memory
    num_threads: int = 0  # CPU threads; 0: chosen for the machine [0 to 1024]

    def __post_init__(self) -> None:
        counts = ("num_steps", "batch_tokens", "context_tokens", "evaluate_every_steps")
        for name in (*counts, "checkpoint_every_steps", "keep_checkpoints"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        self._require("num_steps", self.num_steps < 2**31, "1 to 2147483647")
        self._require("batch_tokens", self.batch_tokens <= MOST_TOKENS, f"1 to {MOST_TOKENS}")
        for name in ("micro_batch_tokens", "weight_decay", "clip_norm"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require("num_threads", 0 <= self.num_threads <= 1024, "0 to 1024")
        for name in ("evaluate_tokens", "evaluate_records"):
            self._require(name, (getattr(self, name) or 0) >= 0, "0 or more")
        for name in ("learning_rate", "matrix_learning_rate"):
            self._require(name, LEAST_RATE <= getattr(self, name) <= 1 / LEAST_RATE, "above 0, in float32")
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            self._require(name, value == 0 or LEAST_RATE <= value <= 1 / LEAST_RATE, "0 or more, in float32")
        passes = self.num_passes
        self._require("num_passes", passes is None or 0 < passes < math.inf, "above 0")
        budget = self.budget_seconds
        self._require("budget_seconds", budget is None or 0 < budget <= TEN_YEARS, "above 0, up to ten years")
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

    def affordable_evaluate_tokens(self) -> int:
        """The tokens of an evaluation, at most 250,000: all of a run together take a tenth of its time.

        A token is read in a third of the time that it takes to learn it. Beside the evaluations between the
        steps there is one before a base is trained, and one of the best weights at the end.
        """
        num_evaluations = 2 + -(-self.num_steps // self.evaluate_every_steps)
        affordable = 0.1 * 3 * self.batch_tokens * self.num_steps / num_evaluations
        return max(LEAST_EVALUATE_TOKENS, min(MOST_EVALUATE_TOKENS, int(affordable)))

    @property
    def num_warmup_steps(self) -> int:
        """The steps over which the learning rate rises."""
        return min(100, self.num_steps // 10) if self.warmup_steps is None else self.warmup_steps

    def _require(self, name: str, is_allowed: bool, allowed: str) -> None:
        if not is_allowed:
            raise ConfigError(f"training.{name}={getattr(self, name)} is not allowed: choose {allowed}")


def learning_rate_factor(settings: TrainingSettings, step: float) -> float:
    """The factor in 0..1 of the highest learning rate at step 0, 1, ...: linear warm-up, then the schedule.

    `Schedule` of `decisions.py` asks for steps in between where it shortens a training.

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
