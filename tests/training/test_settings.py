"""Settings that are not allowed are refused; schedules equal the published ones."""

import math
from typing import Any

import pytest
import torch
from transformers import get_inverse_sqrt_schedule, get_wsd_schedule

from seedbed.base.errors import ConfigError
from seedbed.training.settings import TrainingSettings, learning_rate_factor


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, r"training\.num_steps=0 is not allowed: choose 1 or more"),
        ({"learning_rate": 0.0}, r"training\.learning_rate=0\.0 is not allowed: choose above 0"),
        ({"learning_rate": float("nan")}, r"training\.learning_rate=nan"),
        ({"clip_norm": -1.0}, r"training\.clip_norm=-1\.0 is not allowed: choose 0 or more"),
        ({"beta2": 1.0}, r"training\.beta2=1\.0 is not allowed"),
        ({"cooldown_fraction": 1.5}, r"training\.cooldown_fraction=1\.5 is not allowed: choose 0 to 1"),
        ({"schedule": "linear"}, r"choose constant, cosine, inverse_sqrt, wsd"),
        ({"precision": "float16"}, r"choose auto, float32, bfloat16"),
        (
            {"batch_tokens": 10**20},
            r"batch_tokens=100000000000000000000 is not allowed: choose 1 to 16777216",
        ),
        ({"clip_norm": 1e-300}, r"clip_norm=1e-300 is not allowed: choose 0 or more, in float32"),
        ({"learning_rate": 1e-300}, r"learning_rate=1e-300 is not allowed: choose above 0, in float32"),
        ({"budget_seconds": 1e300}, r"budget_seconds=1e\+300 is not allowed: .* up to ten years"),
        ({"num_steps": 2**31}, r"num_steps=2147483648 is not allowed: choose 1 to 2147483647"),
        ({"batch_tokens": 100}, r"context_tokens=256 is more than training\.batch_tokens=100; raise"),
        ({"num_steps": 50, "warmup_steps": 50}, r"leaves no step of num_steps=50 .*choose 0 to 49"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingSettings(**changes)


def test_the_warm_up_is_a_tenth_of_the_steps_up_to_100() -> None:
    assert TrainingSettings(num_steps=40).num_warmup_steps == 4
    assert TrainingSettings(num_steps=5000).num_warmup_steps == 100
    assert TrainingSettings(num_steps=5000, warmup_steps=0).num_warmup_steps == 0


def nanogpt_learning_rate(it: int) -> float:
    """`get_lr` of nanoGPT's train.py with its settings for Shakespeare on a CPU."""
    learning_rate, warmup_iters, lr_decay_iters, min_lr = 1e-3, 100, 2000, 1e-4
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (learning_rate - min_lr)


def test_cosine_is_nanogpts() -> None:
    settings = TrainingSettings(
        num_steps=2000, warmup_steps=100, schedule="cosine", min_learning_rate_ratio=0.1
    )
    for step in (0, 1, 50, 99, 100, 101, 700, 1999):
        assert 1e-3 * learning_rate_factor(settings, step) == pytest.approx(nanogpt_learning_rate(step))


def reference(schedule: str, step: int) -> float:
    """The factor that a schedule of transformers gives after its warm-up of 10 of 100 steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    if schedule == "wsd":
        made = get_wsd_schedule(
            optimizer, num_warmup_steps=10, num_decay_steps=40, num_stable_steps=50, decay_type="linear"
        )
    else:
        made = get_inverse_sqrt_schedule(optimizer, num_warmup_steps=10, timescale=10)
    return float(made.lr_lambdas[0](step))


@pytest.mark.parametrize("step", [10, 11, 59, 60, 61, 80, 99])
def test_wsd_is_that_of_transformers(step: int) -> None:
    settings = TrainingSettings(
        num_steps=100, warmup_steps=10, schedule="wsd", cooldown_fraction=0.4, min_learning_rate_ratio=0.0
    )
    assert learning_rate_factor(settings, step) == pytest.approx(reference("wsd", step))


@pytest.mark.parametrize("step", [10, 11, 40, 99])
def test_inverse_sqrt_is_that_of_transformers_one_step_on(step: int) -> None:
    # Its steps count from 0 at a rate of 0, ours from 1: the first step learns too.
    settings = TrainingSettings(num_steps=100, warmup_steps=9, schedule="inverse_sqrt")
    assert learning_rate_factor(settings, step - 1) == pytest.approx(reference("inverse_sqrt", step))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse_sqrt", "wsd"])
@pytest.mark.parametrize("warmup", [0, 1, 30])
def test_every_schedule_rises_to_1_and_falls_no_lower_than_allowed(schedule: str, warmup: int) -> None:
    settings = TrainingSettings(
        num_steps=100,
        warmup_steps=warmup,
        schedule=schedule,
        cooldown_fraction=1.0,
        min_learning_rate_ratio=0.05,
    )
    factors = [learning_rate_factor(settings, step) for step in range(100)]
    rising, after = factors[: warmup + 1], factors[warmup:]
    assert rising == sorted(rising) and all(f > 0 for f in rising)
    assert after == sorted(after, reverse=True)
    assert after[0] == pytest.approx(1.0) and after[-1] >= 0.05
