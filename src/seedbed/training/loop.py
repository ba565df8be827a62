"""The one training loop, for every objective, one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seedbed.base.errors import DataError, StoppedEarly, TrainingError
from seedbed.base.runtime import Runtime
from seedbed.base.signals import StopSignals
from seedbed.data.batch import Batch
from seedbed.data.loader import Loader, micro_batches
from seedbed.data.objective import Objective
from seedbed.training.budget import Deadline
from seedbed.training.checkpoints import first_names
from seedbed.training.decisions import Decision, Schedule, append_decision, read_decisions
from seedbed.training.evaluation import Validation, evaluate
from seedbed.training.gradients import add_up_gradients, require_gradient
from seedbed.training.metrics import MetricsFile
from seedbed.training.optimizer import OPTIMIZERS, require_trainable
from seedbed.training.resume import Progress, Resumable
from seedbed.training.run_folder import RunFolder
from seedbed.training.settings import TrainingSettings


class Callback(Protocol):
    """Receives the events of the loop on rank 0."""

    def begin(self, step: int, num_steps: int) -> None:
        """The loop starts or resumes after `step`."""

    def record(self, line: Mapping[str, Any]) -> None:
        """A line for `metrics.jsonl`."""

    def end(self) -> None:
        """The loop has ended, with or without an error."""


def train(
    module: nn.Module,
    loader: Loader,
    *,
    objective: Objective,
    settings: TrainingSettings,
    run: RunFolder,
    runtime: Runtime,
    validation: Validation | None = None,
    evaluate_first: bool = False,
    callbacks: Sequence[Callback] = (),
    fingerprints: Mapping[str, str] | None = None,
    peak_tokens_per_second: float = 0.0,
    deadline: Deadline | None = None,
) -> Progress:
    """Train the module to the last step of the settings, from the newest checkpoint in the run folder.

    Decisions in that folder change the last step. Where the `deadline` of a training with a budget would be
    missed, the loop decides to end earlier.

    The module ends with the last weights; `load_best` loads the best on validation. `fingerprints` of the
    data must be the same on resume. `evaluate_first`: also before step 1. `peak_tokens_per_second` is the
    limit by the measured matmul speed (0: unknown). Errors: StoppedEarly after a signal, when all is saved,
    on all ranks after the same step; TrainingError before the update for gradients that are not finite.
    """
    loop = _Loop(module.to(runtime.device), loader, objective, settings, run, runtime, fingerprints or {})
    loop.validation, loop.peak_tokens_per_second = validation, peak_tokens_per_second
    loop.deadline = deadline
    with torch.random.fork_rng(), loop.signals, loop.signals.hold():
        resuming = run.metrics_path.exists()
        if runtime.is_main:
            loop.outputs = [MetricsFile(run.metrics_path), *callbacks]
        try:
            loop.begin(resuming, evaluate_first=evaluate_first)
            loop.run()
        finally:
            for output in loop.outputs:
                output.end()
            loop.compute.eval()
    return loop.at


class _Loop:
    """The state of one training."""

    validation: Validation | None = None
    peak_tokens_per_second = 0.0
    deadline: Deadline | None = None

    def __init__(
        self,
        module: nn.Module,
        loader: Loader,
        objective: Objective,
        settings: TrainingSettings,
        run: RunFolder,
        runtime: Runtime,
        fingerprints: Mapping[str, str],
    ) -> None:
        self.loader, self.settings, self.runtime = loader, settings, runtime
        self.parameters = require_trainable(module)
        self.optimizer = OPTIMIZERS.get(settings.optimizer)(module, settings)
        self.saved = Resumable(
            module, self.optimizer, loader, run=run, runtime=runtime, fingerprints=fingerprints
        )
        self.compute = TrainStep(module, objective)
        if settings.compile:
            self.compute.compile()
        self.outputs: list[Callback] = []
        self.signals, self.stop = StopSignals(), False  # stop: agreed by all ranks
        self.shorter = 0  # the number of steps to which the training is shortened, agreed by all ranks
        self.at, self.since = Progress(), 0.0
        self.schedule = Schedule(settings)

    def begin(self, resuming: bool, *, evaluate_first: bool) -> None:
        """Load the newest checkpoint."""
        at, problems = self.saved.load()
        if evaluate_first and not at.step:
            at.evaluated_step = -1
        self.at, self.schedule = (
            at,
            Schedule(self.settings, read_decisions(self.saved.run.path, at.decisions)),
        )
        if self.deadline is not None:
            budget_seconds = self.schedule.budget_seconds(self.schedule.decided_step)
            self.deadline.begin(spent_seconds=at.seconds, budget_seconds=budget_seconds)
        for output in self.outputs:
            output.begin(at.step, self.schedule.num_steps(at.step))
        if resuming:
            self._record({"kind": "resume", "step": self.at.step, "problems": problems})

    def run(self) -> None:
        """Evaluate, save, stop or train, whichever is due, up to the last step."""
        at, settings = self.at, self.settings
        self.since = time.perf_counter()
        while True:
            num_steps = self.schedule.num_steps(at.step)
            last = at.step >= num_steps
            if at.evaluated_step < at.step and (last or at.step % settings.evaluate_every_steps == 0):
                self._evaluate()
            if last or self.stop or at.step % settings.checkpoint_every_steps == 0:
                self._count_seconds()
                self._save()
            if self.stop:
                done = f"after step {at.step} of {num_steps}, saved" if at.step else "before step 1"
                again = f"run the same command again, or `seedbed resume {self.saved.run.path}`"
                raise StoppedEarly(f"stopped {done}: {again}")
            if last:
                if settings.average_checkpoints is not None:
                    self._evaluate(averaged=self.saved.load_average(settings.average_checkpoints))
                self._count_seconds()
                return
            self._step()
            self._decide()

    def _save(self) -> None:
        """Write a checkpoint of this step unless there is one."""
        if self.at.step != self.saved.saved_step:
            self.at.decisions = [made for made in self.schedule.decisions if made.step <= self.at.step]
            self.saved.save(self.at)
            self._lap("checkpoint")

    def _decide(self) -> None:
        """Write a decision to end earlier down, then act on it, as on one of before a resume."""
        step = self.at.step
        if self.shorter:
            decision = Decision(step, self.shorter, self.schedule.budget_seconds(step))
            if self.runtime.is_main:
                append_decision(self.saved.run.path, decision)
            self.schedule.add(decision)
        for made in self.schedule.decisions:
            if made.step == step:
                self._record({"kind": "decision", **made._asdict()})

    def _proposal(self) -> int:
        """The number of steps to which the main rank would shorten the training after this one; 0: none."""
        step, schedule = self.at.step + 1, self.schedule
        if self.deadline is None or not self.runtime.is_main or step <= schedule.decided_step:
            return 0
        return self.deadline.num_steps(step, schedule.num_steps(step), self.settings)

    def _lap(self, kind: str) -> None:
        if self.deadline is not None:
            self.deadline.lap(kind)

    def _count_seconds(self) -> None:
        """Add the time since the last count."""
        now = time.perf_counter()
        self.at.seconds, self.since = self.at.seconds + now - self.since, now

    def _step(self) -> None:
        """Train on one global batch."""
        at, settings, runtime = self.at, self.settings, self.runtime
        started = time.perf_counter()
        examples = self.loader.next_step()
        num_tokens = sum(example.num_tokens for example in examples)
        num_targets = sum(len(example.targets) for example in examples)
        if not num_targets:
            raise DataError(
                f"no record of step {at.step + 1} has a target, so there is nothing to learn; check the data"
            )
        batches = micro_batches(
            examples,
            micro_batch_tokens=settings.micro_batch_tokens,
            rank=runtime.rank,
            world_size=runtime.world_size,
        )
        self.compute.train()
        runtime.seed_dropout(settings.seed, "dropout", at.step)
        total = torch.zeros((), device=runtime.device)
        for batch in batches:
            with runtime.autocast():
                loss_sum, _ = self.compute(batch.to(runtime.device))
            require_gradient(loss_sum, self.parameters)
            # Divide by the targets of the whole step: a short answer must not outweigh a long one.
            (loss_sum / num_targets).backward()
            total += loss_sum.detach()
        if runtime.world_size > 1:
            add_up_gradients(self.parameters.values(), runtime)
        loss, norm = self._totals(total, num_targets)
        factor = self.schedule.factor(at.step)
        clip = min(1.0, settings.clip_norm / (norm + 1e-6)) if settings.clip_norm else 1.0
        self.optimizer.step(factor, gradient_scale=clip)
        for parameter in self.parameters.values():
            parameter.grad = None
        seconds = time.perf_counter() - started
        at.step, at.tokens, at.loss = at.step + 1, at.tokens + num_tokens, loss
        self._count_seconds()
        line = {
            "kind": "step",
            "step": at.step,
            "loss": loss,
            "learning_rate": settings.learning_rate * factor,
        }
        line |= {"gradient_norm": norm, "tokens": at.tokens, "seconds": at.seconds}
        line["tokens_per_second"] = num_tokens / seconds
        if self.peak_tokens_per_second:
            # The limit was timed in a fraction of a second; a step that exceeds it is a better measurement.
            self.peak_tokens_per_second = max(self.peak_tokens_per_second, num_tokens / seconds)
            line["peak_fraction"] = num_tokens / seconds / self.peak_tokens_per_second
        self._record(line)
        self._lap("step")

    def _totals(self, total: Tensor, num_targets: int) -> tuple[float, float]:
        """The loss and gradient norm over all ranks, finite or TrainingError; the only device sync."""
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients.values()))))
        requested = total.new_tensor([float(bool(self.signals.requested)), self._proposal()])
        sums = self.runtime.all_reduce_sum(torch.cat((total[None], requested)))
        loss_sum, stop, shorter, norm_value = torch.cat((sums, norm[None])).tolist()
        self.stop, self.shorter = stop > 0, int(shorter)
        if math.isfinite(loss_sum) and math.isfinite(norm_value):
            return loss_sum / num_targets, norm_value
        names = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
        what = f"not finite: {first_names(names)}" if names else "each finite, but not their sum of squares"
        raise TrainingError(
            f"step {self.at.step + 1}: loss {loss_sum / num_targets:.4g}, gradient norm {norm_value:.4g} "
            f"(gradients {what}); the weights are those after step {self.at.step} and the checkpoints are "
            "healthy: lower training.learning_rate, set training.clip_norm, or use training.precision=float32"
        )

    def _evaluate(self, *, averaged: int = 0) -> None:
        """Measure the held-out loss, and save the weights if it is the lowest so far.

        `averaged` is the number of checkpoints of which the weights are the mean.
        """
        at, settings = self.at, self.settings
        if self.validation is not None:
            measured = evaluate(
                self.compute.module,
                self.validation,
                batch_tokens=settings.micro_batch_tokens or settings.batch_tokens,
                seed=settings.seed,
                runtime=self.runtime,
                should_stop=self._should_stop,
            )
            if measured is None:
                return
            self._count_seconds()
            line = {"kind": "evaluation", "step": at.step, **measured.to_dict()}
            line |= {"averaged": averaged} if averaged else {}
            self._record(line | {"tokens": at.tokens, "seconds": at.seconds})
            if at.best_loss is None or measured.loss < at.best_loss:
                at.best_step, at.best_loss = at.step, measured.loss
                self.saved.save_best(at)
            self._lap("evaluation")
        at.evaluated_step = at.step

    def _should_stop(self) -> bool:
        self.stop = self.runtime.sum_over_ranks([float(bool(self.signals.requested))])[0] > 0
        return self.stop

    def _record(self, line: Mapping[str, Any]) -> None:
        for output in self.outputs:
            output.record(line)


class TrainStep(nn.Module):
    """A module and its objective as one: batch -> (loss_sum, num_targets)."""

    def __init__(self, module: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.module, self.objective = module, objective

    def forward(self, batch: Batch) -> tuple[Tensor, int]:
        """The batch's summed loss, a scalar, and the number of its targets."""
        return self.objective.loss_sum(self.module, batch), batch.num_targets
