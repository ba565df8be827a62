"""Learning-rate schedules: what a step's learning rate is, as a factor of the highest one."""

from __future__ import annotations

import math

from seedbed.training.settings import TrainingSettings


def learning_rate_factor(settings: TrainingSettings, step: int) -> float:
    """The factor in 0..1 of step 0, 1, ...: linear warm-up, then the settings' schedule.

    cosine: half a cosine down to min_learning_rate_ratio (Loshchilov and Hutter 1608.03983, without
    restarts). wsd: stable, then linear down to it over the last cooldown_fraction of the steps (Hu et al.
    2404.06395). inverse_sqrt: the inverse square root of the step (Vaswani et al. 1706.03762). constant:
    neither.
    """
    warmup, num_steps, lowest = (
        settings.num_warmup_steps,
        settings.num_steps,
        settings.min_learning_rate_ratio,
    )
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
