"""A run, from its settings and its start to its bundle and report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from seedbed.base.described import Described
from seedbed.base.files import write_file
from seedbed.base.hardware import ResidentPeak
from seedbed.base.notices import Notify, silent
from seedbed.base.runtime import Runtime
from seedbed.base.signals import StopSignals
from seedbed.base.units import seconds_text
from seedbed.data.prepare import DATA
from seedbed.models.family import Network
from seedbed.report.run_files import EXAMPLES
from seedbed.runs.budget import More, deadline, extend, finished_steps, how_to_extend, with_length
from seedbed.runs.decide import decide, saved_plan
from seedbed.runs.figures import run_figures
from seedbed.runs.finish import finish, next_command
from seedbed.runs.prepare import PreparedRun, prepare_run
from seedbed.runs.scoring import score_after, score_before
from seedbed.runs.settings import RunSettings
from seedbed.runs.start import Start
from seedbed.select.plan import Plan
from seedbed.training.evaluation import Validation
from seedbed.training.loop import Callback
from seedbed.training.loop import train as run_loop
from seedbed.training.resume import Progress, load_best
from seedbed.training.run_folder import RunFolder

NUM_EXAMPLES = 3  # that a run writes down for its report
OnPlan = Callable[[Plan, RunSettings], None]


@dataclass(frozen=True, kw_only=True, repr=False)
class Run(Described):
    """A run that has ended: its folder, the model in it, the plan, the measured cost, its metrics.

    `metrics` are those of `run_figures`; `next` is a command that uses the model.
    """

    run: Path
    model: Path
    report: Path
    plan: dict[str, Any]
    measured: dict[str, Any]
    metrics: dict[str, Any]
    next: str
    data: dict[str, Any]  # what was read and held out, as data.json has it
    unused_share: float = 0.0  # of the budget
    is_main: bool = True  # False in the processes of torchrun that leave printing to the first

    def _facts(self) -> dict[str, str]:
        facts = {"run": str(self.run), "steps": f"{self.metrics['step']:,}"}
        if (worked := self.metrics.get("worked")) is not None:
            facts["did it work"] = worked
        facts["time"] = seconds_text(self.measured["seconds"])
        return facts | {"model": str(self.model), "next": self.next}

    def summary(self) -> dict[str, Any]:
        """The same as JSON."""
        paths = {name: str(getattr(self, name)) for name in ("run", "model", "report")}
        found = {"plan": self.plan, "measured": self.measured, "data": self.data, "metrics": self.metrics}
        return paths | found


def train(
    settings: RunSettings,
    out: Path | str,
    *,
    start: Start | None = None,
    callbacks: Sequence[Callback] = (),
    on_plan: OnPlan | None = None,
    notify: Notify = silent,
    device: str = "auto",
    more: More | None = None,
    started: float | None = None,
) -> Run:
    """Train in the run folder `out`, or resume the run that is there; `more` changes its end.

    `on_plan(plan, settings)` is called before the first step, and where a resumed run has a new end; `notify`
    gets a line for each part of the work. A budget counts from `started` on `time.perf_counter`, or from this
    call. Errors: StoppedEarly after a signal, all saved; the other SeedbedErrors in one line each.
    """
    started = perf_counter() if started is None else started
    resident = ResidentPeak()
    with (
        StopSignals() as signals,
        Runtime.from_environment(device, num_threads=settings.training.num_threads) as runtime,
        RunFolder(out, writable=runtime.is_main, keep_checkpoints=settings.training.keep_checkpoints) as run,
    ):
        notify = notify if runtime.is_main else silent
        how: Any = {"runtime": runtime, "resident": resident, "notify": notify, "started": started}
        prepared, plan, scoring = _begun(settings, start or Start(), run, more, on_plan, **how)
        clock = deadline(plan, started=started, scoring=scoring)
        runtime = replace(runtime, precision=prepared.settings.training.precision)
        module, validation = prepared.network(), prepared.evaluated()
        resident.lap()  # measuring and opening a base have freed memory
        progress = run_loop(
            module,
            prepared.loader(),
            objective=prepared.objective,
            settings=prepared.settings.training,
            run=run,
            runtime=runtime,
            validation=validation,
            evaluate_first=prepared.evaluates_first,
            callbacks=callbacks,
            fingerprints=prepared.fingerprints,
            peak_tokens_per_second=plan.peak_tokens_per_second,
            deadline=clock if runtime.is_main else None,
        )
        notify("measuring the best weights, writing the model and the report")
        resident.lap()  # in the memory that the steps freed weights are read, a bundle is written and read
        module, metrics = _measured(module, prepared, validation, progress, runtime=runtime, notify=notify)
        resident.lap()
        with signals.hold():
            if runtime.is_main:
                finish(module, prepared, progress, metrics, resident=resident)
            runtime.broadcast_int(0)  # the others wait here for the main rank
    return replace(_ended(prepared, metrics, is_main=runtime.is_main), unused_share=clock.unused_share())


def _begun(
    settings: RunSettings,
    start: Start,
    run: RunFolder,
    more: More | None,
    on_plan: OnPlan | None,
    *,
    runtime: Runtime,
    resident: ResidentPeak,
    notify: Notify,
    started: float,
) -> tuple[PreparedRun, Plan, float]:
    """All that comes before the first step: the data, the decisions, and the files of the run.

    The number is the seconds for which the task's records were answered; at the end they are again.
    """
    is_new = run.saved_settings() is None
    if more is not None and is_new:  # it has no step yet
        settings, more = with_length(settings, more), None
    prepared = prepare_run(settings, start, run, runtime=runtime, notify=notify)
    scoring = score_before(prepared, notify) if runtime.is_main else 0.0
    resident.lap()
    prepared, plan = decide(
        prepared, runtime=runtime, resident=resident, started=started, scoring=scoring, notify=notify
    )
    run.settle(prepared.settings)
    if runtime.is_main:
        _write_start(prepared, plan, is_new=is_new)
    decided_plan = plan
    if more is not None:
        again: Any = {"more": more, "runtime": runtime, "started": started, "scoring": scoring}
        plan = extend(run, plan, prepared.settings, **again)
    if done := finished_steps(run):
        notify(how_to_extend(run, done))
    elif not is_new and plan == decided_plan:
        notify(f"the plan is unchanged: {run.plan_path}")
    elif runtime.is_main and on_plan is not None:
        on_plan(plan, prepared.settings)
    return prepared, plan, scoring


def _measured(
    module: Network,
    prepared: PreparedRun,
    validation: Validation,
    progress: Progress,
    *,
    runtime: Runtime,
    notify: Notify,
) -> tuple[Network, dict[str, Any]]:
    """Load the best weights -> the network with them, their figures, on the main rank.

    They are the base's own where the answers to the task would be worse.
    """
    if not runtime.is_main:
        return module, {}
    load_best(module, prepared.folder)
    task = score_after(prepared, module, notify)
    if task is not None and task["is_worse"]:
        notify("the answers are worse than the base's, whose weights are kept")
        module, progress = prepared.network().to(runtime.device), replace(progress, best_step=0)
    metrics = run_figures(module, prepared, validation, progress, runtime=runtime, task=task)
    return module, metrics


def _ended(prepared: PreparedRun, metrics: dict[str, Any], *, is_main: bool) -> Run:
    """The result of a run: its metrics, and the plan and the measured cost from its folder."""
    run = prepared.folder
    saved = json.loads(run.plan_path.read_text())
    return Run(
        run=run.path,
        model=prepared.model_path,
        report=run.report_path,
        measured=saved.pop("measured", {}),
        plan=saved,
        metrics=metrics,
        next=next_command(prepared),
        data=prepared.shards.facts(),
        is_main=is_main,
    )


def _write_start(prepared: PreparedRun, plan: Plan, *, is_new: bool) -> None:
    """Write the plan and the first examples into the folder of a run, unless it has them."""
    run = prepared.folder
    if is_new or saved_plan(run) is None:
        write_file(run.plan_path, json.dumps(plan.to_dict(), indent=2).encode())
    if run.can_resume:
        return
    write_file(run.path / DATA, json.dumps(prepared.shards.facts(), indent=1).encode())
    examples = [example.to_dict() for example in prepared.first_examples(NUM_EXAMPLES)]
    content = json.dumps({"examples": examples}, ensure_ascii=False)
    write_file(run.path / EXAMPLES, content.encode("utf-8", errors="replace"))
