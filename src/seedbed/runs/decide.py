"""The decisions of the machine before step 1: the plan, the precision, the number of steps for a budget."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from seedbed.base.errors import HardwareError
from seedbed.base.hardware import ResidentPeak, disk_free_bytes, probe
from seedbed.base.notices import Notify, silent
from seedbed.base.runtime import Runtime
from seedbed.base.units import bytes_text
from seedbed.runs.budget import affordable
from seedbed.runs.lighter import lighter_ways
from seedbed.runs.prepare import PreparedRun
from seedbed.runs.settings import decided
from seedbed.runs.tuning import micro_batched
from seedbed.select.plan import Plan, plan_training
from seedbed.training.run_folder import RunFolder

MOST_STEPS = 2**31 - 1
MEASURED_STEPS = 200  # whose records show how many a step has


def decide(
    prepared: PreparedRun,
    *,
    runtime: Runtime,
    resident: ResidentPeak,
    started: float,
    scoring: float = 0.0,
    notify: Notify = silent,
    refuse: bool = True,
) -> tuple[PreparedRun, Plan]:
    """The run with all of its settings decided, and its plan; a resumed run keeps its decisions.

    A budget counts from `started` on, and `scoring` seconds of it are for answers at the end. Errors:
    HardwareError if the run needs more memory or disk than there is, if it is to `refuse`; ConfigError for a
    budget that is too short.
    """
    prepared = replace(prepared, settings=micro_batched(prepared.settings, runtime.device))
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
        plan = plan_run(prepared, runtime, resident, precision=precision)
        precision = plan.precision
    settings = decided(settings, precision=precision)
    most_steps = steps_of_passes(prepared)
    if most_steps < training.num_steps and training.budget_seconds is None:
        settings = decided(settings, num_steps=most_steps)
        plan = plan.for_settings(settings.training)
    if training.budget_seconds is not None:
        if then:
            names = ("num_steps", "evaluate_every_steps", "checkpoint_every_steps")
            settings = decided(settings, **{name: then[name] for name in names})
        else:
            settings = affordable(
                plan, settings, started=started, runtime=runtime, at_most=most_steps, scoring=scoring
            )
        plan = plan.for_settings(settings.training)
    if saved is None and settings.training.evaluate_tokens is None:
        settings = decided(settings, evaluate_tokens=settings.training.affordable_evaluate_tokens())
        plan = plan.for_settings(settings.training)
    elif settings.training.evaluate_tokens is None:
        settings = decided(settings, evaluate_tokens=then.get("evaluate_tokens"))
    if saved is None and runtime.is_main and refuse:
        _require_resources(plan, run.path)
    return replace(prepared, settings=settings), plan


def steps_of_passes(prepared: PreparedRun) -> int:
    """The steps of the passes over the data that end a run; 2**31 - 1 if none do."""
    most, passes = MOST_STEPS, prepared.settings.training.num_passes
    if passes is None:
        return most
    loader, num_records, num_steps = prepared.loader(), 0, 0
    total = sum(len(part.source.order(0)) for part in prepared.mixture)
    while num_steps < MEASURED_STEPS and num_records < total:
        num_records += len(loader.next_step())
        num_steps += 1
    return max(1, min(most, math.ceil(passes * total * num_steps / num_records)))


def plan_run(
    prepared: PreparedRun, runtime: Runtime, resident: ResidentPeak, *, precision: str | None = None
) -> Plan:
    """The plan of a run on its own records, in the precision of its settings or another one."""
    training = prepared.settings.training
    return plan_training(
        prepared.start.outline(prepared.config),
        replace(training, precision=precision or training.precision),
        hardware=probe(),
        runtime=runtime,
        objective=prepared.objective,
        mixture=prepared.mixture,
        validation_tokens=prepared.validation_tokens(),
        evaluates_first=prepared.evaluates_first,
        data_bytes=prepared.shards.num_bytes,  # memory-mapped, read in random order
        resident=resident,
        folder=prepared.folder.path,
        saves_adapter=prepared.settings.peft is not None,
        lighter=lighter_ways(prepared.settings, prepared.start, prepared.config),
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
