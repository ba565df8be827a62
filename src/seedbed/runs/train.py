"""A run, from its settings and its start to the bundle, whatever it trains and for whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seedbed.base.files import write_file
from seedbed.base.hardware import ResidentPeak
from seedbed.base.runtime import Runtime
from seedbed.base.signals import StopSignals
from seedbed.data.loader import Loader
from seedbed.models.family import Network
from seedbed.runs.decide import decide, saved_plan
from seedbed.runs.examples import NUM_KEPT, first_examples, write_examples
from seedbed.runs.finish import bits_per_byte, finish, next_command
from seedbed.runs.prepared import Prepared, prepare
from seedbed.runs.settings import RunSettings
from seedbed.runs.start import Start
from seedbed.select.plan import Plan
from seedbed.training.loop import Callback
from seedbed.training.loop import train as run_loop
from seedbed.training.resume import Progress
from seedbed.training.run_folder import RunFolder

OnPlan = Callable[[Plan, RunSettings], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that has ended: its folder, the model in it, the plan, what was measured, its losses.

    `next` is a command that shows what the model does.
    """

    run: Path
    model: Path
    report: Path
    plan: dict[str, Any]
    measured: dict[str, Any]
    metrics: dict[str, Any]
    next: str
    is_main: bool = True  # False in the processes of torchrun that leave printing to the first

    @classmethod
    def of(cls, run: RunFolder, metrics: dict[str, Any], *, next: str, is_main: bool) -> Run:
        """What is in the folder of a run that has ended, with its last metrics."""
        plan = json.loads(run.plan_path.read_text())
        return cls(
            run=run.path,
            model=run.model_path,
            report=run.report_path,
            measured=plan.pop("measured", {}),
            plan=plan,
            metrics=metrics,
            next=next,
            is_main=is_main,
        )

    def summary(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "run": str(self.run),
            "model": str(self.model),
            "report": str(self.report),
            "plan": self.plan,
            "measured": self.measured,
            "metrics": self.metrics,
        }


def train(
    settings: RunSettings,
    out: Path | str,
    *,
    start: Start | None = None,
    callbacks: Sequence[Callback] = (),
    on_plan: OnPlan | None = None,
    device: str = "auto",
) -> Run:
    """Train in the run folder `out`, or resume the run that is there.

    `on_plan(plan, settings)` is called before the first step. Errors: StoppedEarly after a signal, all saved;
    the other SeedbedErrors in one line each.
    """
    start = start or Start()
    resident = ResidentPeak()
    with (
        StopSignals() as signals,
        Runtime.from_environment(device, num_threads=settings.training.num_threads) as runtime,
        RunFolder(out, writable=runtime.is_main, keep_checkpoints=settings.training.keep_checkpoints) as run,
    ):
        is_new = run.saved_settings() is None
        prepared = prepare(settings, start, run, runtime=runtime)
        resident.lap()
        settings, plan = decide(settings, start, prepared, run=run, runtime=runtime, resident=resident)
        runtime = replace(runtime, precision=settings.training.precision)
        run.settle(settings)
        if runtime.is_main:
            if is_new or saved_plan(run) is None:
                write_file(run.plan_path, json.dumps(plan.to_dict(), indent=2).encode())
            if on_plan is not None:
                on_plan(plan, settings)
        module = start.network(prepared.config, seed=settings.training.seed)
        progress = _learn(module, settings, start, prepared, plan, run, runtime, callbacks)
        bits = bits_per_byte(progress, prepared)
        resident.lap()  # a bundle is written and read again in the memory that the optimizer freed
        with signals.hold():
            if runtime.is_main:
                finish(module, settings, start, prepared, progress, bits=bits, run=run, resident=resident)
            runtime.broadcast_int(0)  # the others wait here for the main rank
    metrics = {"step": progress.step, "loss": progress.loss, "best_step": progress.best_step}
    metrics |= {"validation_loss": progress.best_loss, "validation_bits_per_byte": bits}
    return Run.of(run, metrics, next=next_command(run.path, prepared), is_main=runtime.is_main)


def _learn(
    module: Network,
    settings: RunSettings,
    start: Start,
    prepared: Prepared,
    plan: Plan,
    run: RunFolder,
    runtime: Runtime,
    callbacks: Sequence[Callback],
) -> Progress:
    """Write the first examples down, then run the loop to its end."""
    training = settings.training
    if runtime.is_main and not run.can_resume:
        write_examples(first_examples(prepared, NUM_KEPT, seed=training.seed), run)
    fingerprints = {"content": prepared.data.fingerprint}
    if start.base is not None:
        fingerprints["base"] = start.base.fingerprint
    module.set_activation_checkpointing(training.checkpoint_activations)
    return run_loop(
        module,
        Loader(prepared.mixture, batch_tokens=training.batch_tokens, seed=training.seed),
        objective=prepared.objective,
        settings=training,
        run=run,
        runtime=runtime,
        validation=prepared.held_out,
        callbacks=callbacks,
        fingerprints=fingerprints,
        peak_tokens_per_second=plan.peak_tokens_per_second,
    )
