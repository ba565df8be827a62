"""The decisions of the machine before step 1: the plan, the precision, the number of steps for a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from seedbed.base.errors import HardwareError
from seedbed.base.hardware import ResidentPeak, disk_free_bytes, probe
from seedbed.base.notices import Notify, silent
from seedbed.base.runtime import Runtime
from seedbed.base.units import bytes_text
from seedbed.runs.budget import affordable
from seedbed.runs.prepare import PreparedRun
from seedbed.runs.settings import decided
from seedbed.select.obstacle import obstacle_of
from seedbed.select.plan import Plan, plan_training
from seedbed.select.rehearsal import MOST_SECONDS
from seedbed.training.run_folder import RunFolder


def decide(
    prepared: PreparedRun,
    *,
    runtime: Runtime,
    resident: ResidentPeak,
    started: float,
    notify: Notify = silent,
    refuse: bool = True,
) -> tuple[PreparedRun, Plan]:
    """The run with all of its settings decided, and its plan; a resumed run keeps its decisions.

    A budget counts from `started` on. Errors: HardwareError if the run needs more memory or disk than there
    is, if it is to `refuse`; ConfigError for a budget that is too short.
    """
    run, settings, training = prepared.folder, prepared.settings, prepared.settings.training
    saved = run.saved_settings()
    then = {} if saved is None else saved["training"]
    precision = training.precision if training.precision != "auto" else then.get("precision", "auto")
    plan = saved_plan(run) if saved is not None else None
    if plan is None:
        notify("measuring a few steps for the plan")
        if training.compile:
            notify("warning: compiling takes time and memory before step 1 that the plan does not contain")
        probe()
        resident.lap()

        def planned_in(kind: str, seconds: float) -> Plan:
            return plan_run(prepared, replace(runtime, precision=kind), resident, seconds=seconds)

        precision, plan = faster(precision, planned_in, runtime, training.budget_seconds)
        obstacle = obstacle_of(
            plan.bytes,
            prepared.start.outline(prepared.config),
            training,
            mixture=prepared.mixture,
            hardware=probe(),
            runtime=replace(runtime, precision=precision),
        )
        plan = replace(plan, obstacle=obstacle)
    settings = decided(settings, precision=precision)
    if training.budget_seconds is not None:
        if then:
            names = ("num_steps", "evaluate_every_steps", "checkpoint_every_steps")
            settings = decided(settings, **{name: then[name] for name in names})
        else:
            settings = affordable(plan, settings, started=started, runtime=runtime)
        plan = plan.for_settings(settings.training)
    if saved is None and settings.training.evaluate_tokens is None:
        settings = decided(settings, evaluate_tokens=settings.training.affordable_evaluate_tokens())
        plan = plan.for_settings(settings.training)
    elif settings.training.evaluate_tokens is None:
        settings = decided(settings, evaluate_tokens=then.get("evaluate_tokens"))
    if saved is None and runtime.is_main and refuse:
        _require_resources(plan, run.path)
    return replace(prepared, settings=settings), plan


def faster(
    precision: str,
    planned_in: Callable[[str, float], Plan],
    runtime: Runtime,
    budget_seconds: float | None = None,
) -> tuple[str, Plan]:
    """The precision, for "auto" the faster one, and its plan; measuring takes at most a tenth of a budget."""
    if precision == "auto" and probe().precision == "float32":
        precision = "float32"
    kinds = ("float32", "bfloat16") if precision == "auto" else (precision,)
    seconds = MOST_SECONDS if budget_seconds is None else min(MOST_SECONDS, budget_seconds / 10)
    plans = {kind: planned_in(kind, seconds / len(kinds)) for kind in kinds}
    if precision == "auto":  # fast matmuls alone do not make fast steps: both were timed on this shape
        is_faster = plans["bfloat16"].step_seconds < 0.9 * plans["float32"].step_seconds
        precision = ("float32", "bfloat16")[runtime.broadcast_int(int(is_faster))]
    return precision, plans[precision]


def plan_run(
    prepared: PreparedRun, runtime: Runtime, resident: ResidentPeak, *, seconds: float = MOST_SECONDS
) -> Plan:
    """The plan of a run on its own records."""
    return plan_training(
        prepared.start.outline(prepared.config),
        prepared.settings.training,
        hardware=probe(),
        runtime=runtime,
        objective=prepared.objective,
        mixture=prepared.mixture,
        validation_tokens=prepared.validation_tokens(),
        evaluates_first=prepared.evaluates_first,
        data_bytes=prepared.shards.num_bytes,  # memory-mapped, read in random order
        resident=resident,
        folder=prepared.folder.path,
        seconds=seconds,
    )


def saved_plan(run: RunFolder) -> Plan | None:
    """The plan of a run that has begun; None if its file is missing or damaged."""
    return Plan.from_dict(run.plan_file())


def _require_resources(plan: Plan, folder: Path) -> None:
    if plan.obstacle:
        raise HardwareError(plan.obstacle)
    free_bytes = disk_free_bytes(folder)
    if plan.disk_bytes > free_bytes:
        needed, free = bytes_text(plan.disk_bytes), bytes_text(free_bytes)
        raise HardwareError(
            f"the run writes about {needed}, and {free} are free at {folder}; free some space, or choose "
            "another folder"
        )
