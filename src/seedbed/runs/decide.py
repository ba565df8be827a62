"""What the machine decides before step 1, once: the precision, and the steps that a budget buys."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from seedbed.runs.objectives import mixture_of, source_for
from seedbed.runs.settings import RunSettings, decided
from seedbed.base.errors import HardwareError
from seedbed.base.hardware import Hardware, ResidentPeak, disk_free_bytes, probe
from seedbed.base.runtime import Runtime
from seedbed.data.objective import Objective
from seedbed.data.prepare import PreparedData
from seedbed.models.family import Config
from seedbed.report.units import bytes_text
from seedbed.select.plan import Plan, plan_training
from seedbed.training.run_folder import RunFolder
from seedbed.training.settings import TrainingSettings

# Of a budget: the rest is for a machine that is slower than when it was measured, and for the bundle.
BUDGET_SHARE = 0.85
FEWEST_STEPS = 50
EVALUATION_SHARE = 0.1


def decide(
    asked: RunSettings,
    saved: Mapping[str, Any] | None,
    *,
    config: Config,
    objective: Objective,
    prepared: PreparedData,
    runtime: Runtime,
    run: RunFolder,
    resident: ResidentPeak,
) -> tuple[RunSettings, Plan]:
    """The settings with nothing left open, and the plan; on resume what was decided then stays, unmeasured.

    Errors: HardwareError where memory or disk cannot hold the run.
    """
    training = asked.training
    then = saved["training"] if saved is not None else {}
    precision = training.precision if training.precision != "auto" else then.get("precision", "auto")
    plan = saved_plan(run) if saved is not None else None
    if plan is None:
        precision, plan = _measured(precision, asked, config, objective, prepared, runtime, run, resident)
    settings = decided(asked, precision=precision)
    if training.budget_seconds is not None:
        of_budget = then or _affordable(plan, settings, BUDGET_SHARE * training.budget_seconds)
        names = ("num_steps", "evaluate_every_steps", "checkpoint_every_steps")
        settings = decided(settings, **{name: runtime.broadcast_int(of_budget[name]) for name in names})
        settings.training.require_warmup()
        plan = plan.for_settings(settings.training)
    if saved is None and runtime.is_main:
        _require_room(plan, run.path)
    return settings, plan


def _measured(
    precision: str,
    asked: RunSettings,
    config: Config,
    objective: Objective,
    prepared: PreparedData,
    runtime: Runtime,
    run: RunFolder,
    resident: ResidentPeak,
) -> tuple[str, Plan]:
    """The precision, the faster one where it is still open, and the plan with it."""
    hardware = probe()
    resident.lap()
    if precision == "auto" and hardware.precision == "float32":
        precision = "float32"
    plans = {
        kind: plan_run(
            asked,
            config,
            objective=objective,
            prepared=prepared,
            hardware=hardware,
            runtime=replace(runtime, precision=kind),
            folder=run.path,
            resident=resident,
        )
        for kind in (("float32", "bfloat16") if precision == "auto" else (precision,))
    }
    if precision == "auto":  # fast products alone do not make fast steps: both were timed on this shape
        faster = plans["bfloat16"].step_seconds < 0.9 * plans["float32"].step_seconds
        precision = ("float32", "bfloat16")[runtime.broadcast_int(int(faster))]
    return precision, plans[precision].above(resident)


def plan_run(
    settings: RunSettings,
    config: Config,
    *,
    objective: Objective,
    prepared: PreparedData,
    hardware: Hardware,
    runtime: Runtime,
    folder: Path,
    resident: ResidentPeak,
) -> Plan:
    """The plan of a run on its own records."""
    training = settings.training
    return plan_training(
        config,
        training,
        hardware=hardware,
        runtime=runtime,
        objective=objective,
        mixture=mixture_of(objective, prepared, training),
        validation_tokens=_validation_tokens(objective, prepared, training),
        data_bytes=sum(shard.tokens.nbytes for shard in prepared.shards),  # mapped, read at random: all
        resident=resident,
        folder=folder,
    )


def _validation_tokens(objective: Objective, prepared: PreparedData, training: TrainingSettings) -> int:
    """Tokens that the network reads of what is held out, as the first records have it."""
    records = list(islice(source_for(objective, prepared, training, validates=True).records(0, 0), 64))
    read = sum(objective.example(record, training.seed).num_tokens for record in records)
    held = sum(len(r.ids) + (0 if r.answer is None else len(r.answer)) for r in records)
    shards = (prepared.validation, prepared.validation_answers)
    return sum(shard.num_tokens for shard in shards if shard is not None) * read // max(1, held)


def saved_plan(run: RunFolder) -> Plan | None:
    """The plan that the run began with; None where its file is lost or not whole."""
    try:
        saved = json.loads(run.plan_path.read_bytes())
    except (OSError, ValueError):
        return None
    return Plan.from_dict(saved) if isinstance(saved, dict) else None


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

    num_steps = most_steps(cost, seconds, at_most=int(seconds / plan.step_seconds))
    return {"num_steps": num_steps} | every(num_steps)


def most_steps(cost: Callable[[int], float], seconds: float, *, at_most: int) -> int:
    """The most steps whose `cost` is within `seconds`, but never fewer than FEWEST_STEPS."""
    numbers = range(FEWEST_STEPS, max(FEWEST_STEPS, at_most) + 1)
    return numbers[max(1, bisect_right(numbers, seconds, key=cost)) - 1]


def _require_room(plan: Plan, folder: Path) -> None:
    available = plan.hardware["available_bytes"]
    if available and plan.peak_bytes > available:
        needed, free = bytes_text(plan.peak_bytes), bytes_text(available)
        raise HardwareError(
            f"the run needs about {needed} of memory, and {free} are free; lower "
            "training.micro_batch_tokens, or choose a smaller model"
        )
    free_bytes = disk_free_bytes(folder)
    if plan.disk_bytes > free_bytes:
        needed, free = bytes_text(plan.disk_bytes), bytes_text(free_bytes)
        raise HardwareError(
            f"the run writes about {needed}, and {free} are free at {folder}; free some space, or choose "
            "another folder"
        )
