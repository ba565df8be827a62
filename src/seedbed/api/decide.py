"""What the machine decides before step 1: the precision, and the steps that a budget buys; written down,
not asked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seedbed.api.run_settings import RunSettings, decided
from seedbed.base.errors import HardwareError
from seedbed.base.hardware import disk_free_bytes, probe
from seedbed.base.runtime import Runtime
from seedbed.data.prepare import PreparedData
from seedbed.models.family import Config
from seedbed.select.plan import Plan, plan_training

# Of a budget: the rest is for a machine that is slower than when it was measured, and for the bundle.
BUDGET_SHARE = 0.95
FEWEST_STEPS = 50
EVALUATION_SHARE = 0.1


def decide(
    asked: RunSettings,
    saved: Mapping[str, Any] | None,
    *,
    config: Config,
    prepared: PreparedData,
    runtime: Runtime,
    folder: Path,
) -> tuple[RunSettings, Plan]:
    """The settings with nothing left open, and the plan; on resume what was decided then stays.

    Errors: HardwareError where memory or disk cannot hold the run.
    """
    training = asked.training
    hardware = probe()
    then = saved["training"] if saved is not None else {}
    precision = training.precision
    if precision == "auto":
        precision = then.get("precision", "float32" if hardware.precision == "float32" else "auto")
    num_validation = prepared.validation.num_tokens
    plans = {
        kind: plan_training(
            config,
            training,
            hardware=hardware,
            runtime=replace(runtime, precision=kind),
            validation_tokens=num_validation,
        )
        for kind in (("float32", "bfloat16") if precision == "auto" else (precision,))
    }
    if precision == "auto":  # fast products alone do not make fast steps: both were timed on this shape
        faster = plans["bfloat16"].step_seconds < 0.9 * plans["float32"].step_seconds
        precision = ("float32", "bfloat16")[runtime.broadcast_int(int(faster))]
    settings, plan = decided(asked, precision=precision), plans[precision]
    if training.budget_seconds is not None:
        of_budget = then or _affordable(plan, settings, BUDGET_SHARE * training.budget_seconds)
        names = ("num_steps", "evaluate_every_steps", "checkpoint_every_steps")
        settings = decided(settings, **{name: runtime.broadcast_int(of_budget[name]) for name in names})
        plan = plan.for_settings(settings.training)
    if saved is None and runtime.is_main:
        _require_room(plan, folder)
    return settings, plan


def _affordable(plan: Plan, settings: RunSettings, seconds: float) -> dict[str, int]:
    """The steps whose training takes so many seconds, with ten checkpoints and two to ten evaluations."""
    num_evaluations = 10
    if plan.evaluation_seconds:
        num_evaluations = max(2, min(10, int(EVALUATION_SHARE * seconds / plan.evaluation_seconds)))

    def every(num_steps: int) -> dict[str, int]:
        evaluate = max(10, -(-num_steps // num_evaluations))
        return {"evaluate_every_steps": evaluate, "checkpoint_every_steps": max(10, num_steps // 10)}

    def cost(num_steps: int) -> float:
        chosen = decided(settings, num_steps=num_steps, **every(num_steps))
        return plan.for_settings(chosen.training).seconds

    low, high = FEWEST_STEPS, max(FEWEST_STEPS, int(seconds / plan.step_seconds))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= seconds else (low, middle - 1)
    return {"num_steps": low} | every(low)


def _require_room(plan: Plan, folder: Path) -> None:
    available = plan.hardware["available_bytes"]
    if available and plan.peak_bytes > available:
        raise HardwareError(
            f"the run needs about {plan.peak_bytes / 2**30:.1f} GiB of memory, and "
            f"{available / 2**30:.1f} GiB are free; "
            "lower training.micro_batch_tokens, or choose a smaller model"
        )
    free = disk_free_bytes(folder)
    if plan.disk_bytes > free:
        raise HardwareError(
            f"the run writes about {plan.disk_bytes / 2**30:.2f} GiB, and {free / 2**30:.2f} GiB are "
            f"free at {folder}; "
            "free some space, or choose another folder"
        )
