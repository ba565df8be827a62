"""The time of a run: the steps that a budget allows before step 1, and a run that is made longer."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from seedbed.base.errors import ConfigError
from seedbed.base.files import write_file
from seedbed.base.runtime import Runtime
from seedbed.base.units import seconds_text
from seedbed.runs.settings import RunSettings, decided
from seedbed.select.plan import Plan
from seedbed.training.budget import Costs, Deadline
from seedbed.training.decisions import Decision, Schedule, append_decision, read_decisions
from seedbed.training.metrics import read_metrics
from seedbed.training.run_folder import MEASURED, RunFolder

COMPILED_SECONDS = 600  # of a budget, at least, for a network that is compiled
LEAST_STEPS = 10  # of a budget: fewer are refused
TRAINING_SHARE = 0.95  # of the time between preparation and end; the rest is a reserve for a slower machine
EVALUATION_SHARE = CHECKPOINT_SHARE = 0.1  # of the training, at most, unless two take more
END_SECONDS = 1.5  # beside what is written: the report, the end of the process


class More(NamedTuple):
    """How long a run is to train: to so many steps in all, or for so many seconds from now."""

    num_steps: int | None = None
    seconds: float | None = None


def with_length(settings: RunSettings, more: More) -> RunSettings:
    """The settings of a run that has no step yet, with another length."""
    if more.num_steps is not None:
        return decided(settings, num_steps=more.num_steps, budget_seconds=None)
    return decided(settings, budget_seconds=more.seconds)


def end_seconds(plan: Plan, scoring: float = 0.0) -> float:
    """Seconds after the training: the best weights are read and evaluated, a bundle written and read.

    `scoring`: of the answers to a task.
    """
    return END_SECONDS + 2 * plan.checkpoint_seconds + plan.evaluation_seconds + scoring


def deadline(plan: Plan, *, started: float, scoring: float = 0.0) -> Deadline:
    """The clock of a training, for a command that began at `started`."""
    planned = Costs(
        step=plan.step_seconds,
        evaluation=plan.evaluation_seconds,
        checkpoint=plan.checkpoint_seconds,
        end=end_seconds(plan, scoring) - plan.evaluation_seconds,
    )
    return Deadline(planned, started=started)


def affordable(
    plan: Plan,
    settings: RunSettings,
    *,
    started: float,
    runtime: Runtime,
    at_most: int = 2**31 - 1,
    scoring: float = 0.0,
) -> RunSettings:
    """The settings with the steps that fit in the budget, up to ten checkpoints, and two to ten evaluations.

    Errors: ConfigError with the smallest budget, if that is below `LEAST_STEPS`.
    """
    budget = settings.training.budget_seconds
    assert budget is not None
    if settings.training.compile and budget < COMPILED_SECONDS:
        raise ConfigError(
            f"a budget of {seconds_text(budget)} is too short for training.compile=true, which takes minutes "
            f"before step 1 that no plan contains; give --budget {COMPILED_SECONDS}s or more, or --steps N, "
            "or leave it out"
        )
    prepared = perf_counter() - started
    seconds = TRAINING_SHARE * (budget - prepared - end_seconds(plan, scoring))

    def times(share: float, cost: float) -> int:
        return 10 if not cost else max(2, min(10, int(share * seconds / cost)))

    num_evaluations = times(EVALUATION_SHARE, plan.evaluation_seconds)
    num_checkpoints = times(CHECKPOINT_SHARE, plan.checkpoint_seconds)

    def with_steps(num_steps: int) -> RunSettings:
        evaluate, save = (max(10, -(-num_steps // number)) for number in (num_evaluations, num_checkpoints))
        every = {"evaluate_every_steps": evaluate, "checkpoint_every_steps": save}
        return decided(settings, num_steps=num_steps, **every)

    def cost(num_steps: int) -> float:
        return plan.for_settings(with_steps(num_steps).training).seconds

    least = max(LEAST_STEPS, (settings.training.warmup_steps or 0) + 1)
    fitting = int(seconds / plan.step_seconds)
    found = most_steps(cost, seconds, at_most=min(fitting, at_most), at_least=min(least, at_most))
    num_steps = runtime.broadcast_int(0 if cost(found) > seconds else found)
    if not num_steps:
        rest = cost(least) / TRAINING_SHARE + end_seconds(plan, scoring)
        _refuse(budget, prepared, f"{least} steps with their evaluation, and the end,", rest)
    chosen = with_steps(num_steps)
    every = chosen.training.evaluate_every_steps, chosen.training.checkpoint_every_steps
    evaluate, save = map(runtime.broadcast_int, every)
    return decided(chosen, evaluate_every_steps=evaluate, checkpoint_every_steps=save)


def _refuse(budget: float, prepared: float, what: str, rest: float) -> None:
    smallest = 5 * math.ceil((prepared + 1.1 * rest) / 5)
    raise ConfigError(
        f"a budget of {seconds_text(budget)} is too short: {seconds_text(prepared)} have passed, and {what} "
        f"take about {seconds_text(rest)}; give --budget {smallest}s or more, or choose a smaller model or "
        "training.batch_tokens"
    )


def most_steps(cost: Callable[[int], float], seconds: float, *, at_most: int, at_least: int) -> int:
    """The largest number of steps whose `cost` is within `seconds`, but at least `at_least`."""
    numbers = range(at_least, max(at_least, at_most) + 1)
    return numbers[max(1, bisect_right(numbers, seconds, key=cost)) - 1]


def finished_steps(run: RunFolder) -> int:
    """The number of steps of a run that is finished, with its report; else 0."""
    saved = run.saved_settings()
    if saved is None or MEASURED not in run.plan_file():
        return 0
    done = run.checkpoints.steps()[-1]
    decisions = read_decisions(run.path)
    num_steps = decisions[-1].num_steps if decisions else saved["training"]["num_steps"]
    return done if done >= num_steps else 0


def how_to_extend(run: RunFolder, num_steps: int) -> str:
    """The line for a run that is finished."""
    resume = f"seedbed resume {run.path}"
    return (
        f"{run.path} is finished after {num_steps:,} steps; `{resume} --steps N` or `{resume} --budget TIME` "
        "trains it further"
    )


def extend(
    run: RunFolder,
    plan: Plan,
    settings: RunSettings,
    *,
    more: More,
    runtime: Runtime,
    started: float,
    scoring: float = 0.0,
) -> Plan:
    """Decide a new end of a run that can resume, from its newest checkpoint on -> the plan of the whole.

    Errors: ConfigError if that is before what it has done, or if the time is too short.
    """
    found = [each for each in reversed(run.checkpoints.steps()) if not run.checkpoints.problem(each)]
    progress: dict[str, Any] = run.checkpoints.at(found[0]).state["progress"] if found else {}
    step = progress.get("step", 0)
    schedule = Schedule(settings.training, read_decisions(run.path, progress.get("decisions", ())))
    num_steps, budget = more.num_steps, None
    if more.seconds is not None:
        end = end_seconds(plan, scoring)
        further = _further_steps(run, plan, settings, more.seconds, started=started, end=end)
        num_steps = runtime.broadcast_int(step + further)
        budget = progress.get("seconds", 0.0) + more.seconds
    assert num_steps is not None
    if num_steps < step:
        raise ConfigError(
            f"--steps {num_steps} is less than the {step} steps that {run.path} has done; give their number "
            f"in all, more than {step}"
        )
    if num_steps == finished_steps(run) or (num_steps, budget) == (
        schedule.num_steps(step),
        schedule.budget_seconds(step),
    ):
        return plan
    plan = _of_length(plan, settings, num_steps)
    if runtime.is_main:
        # The decision comes last: a crash before it leaves a run that the same command extends.
        write_file(run.plan_path, json.dumps(plan.to_dict(), indent=2).encode())
        run.copies.write()
        append_decision(run.path, Decision(step, num_steps, budget))
    runtime.broadcast_int(0)  # the others read it after this
    return plan


def _of_length(plan: Plan, settings: RunSettings, num_steps: int) -> Plan:
    """The plan of a run of so many steps, even if its warm-up took more."""
    training = decided(settings, num_steps=num_steps, warmup_steps=0).training
    return plan.for_settings(training)


def _further_steps(
    run: RunFolder, plan: Plan, settings: RunSettings, seconds: float, *, started: float, end: float
) -> int:
    """The steps that a run can take in `seconds` from the start of the command, at its pace so far.

    `end`: the seconds after them.
    """
    pace = _pace(read_metrics(run.metrics_path)) or plan.step_seconds
    plan = replace(plan, evaluates_first=False)
    prepared = perf_counter() - started
    left = TRAINING_SHARE * (seconds - prepared - end)

    def cost(num_steps: int) -> float:
        return _of_length(plan, settings, num_steps).seconds + (pace - plan.step_seconds) * num_steps

    found = most_steps(cost, left, at_most=int(left / pace), at_least=1)
    if cost(found) > left:
        _refuse(seconds, prepared, "a step, an evaluation and the end", cost(1) + end)
    return found


def _pace(lines: Sequence[dict[str, Any]]) -> float | None:
    """The median seconds of the last steps of a run."""
    seconds = [line["seconds"] for line in lines if line["kind"] == "step"][-50:]
    return median(after - before for before, after in pairwise(seconds)) if len(seconds) > 1 else None
