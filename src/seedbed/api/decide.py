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

# Of a budget: what evaluations, checkpoints and the bundle take beside the steps.
BUDGET_SHARE = 0.85


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
        num_steps = then.get("num_steps") or max(
            20, int(BUDGET_SHARE * training.budget_seconds / plan.step_seconds)
        )
        num_steps = runtime.broadcast_int(num_steps)
        every = max(10, num_steps // 10)
        settings = decided(
            settings, num_steps=num_steps, evaluate_every_steps=every, checkpoint_every_steps=every
        )
        scaled = num_steps / plan.num_steps
        plan = replace(
            plan, num_steps=num_steps, seconds=plan.step_seconds * num_steps, flops=plan.flops * scaled
        )
    if saved is None and runtime.is_main:
        _require_room(plan, folder)
    return settings, plan


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
