"""The one training loop, for every objective, one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from seedbed.base.errors import DataError, StoppedEarly, TrainingError
from seedbed.base.runtime import Runtime
from seedbed.base.signals import StopSignals
from seedbed.data.batch import collate
from seedbed.data.loader import Loader, MakesExamples, micro_batches, one_pass
from seedbed.data.records import Source
from seedbed.training.checkpoints import name_some
from seedbed.training.metrics import MetricsFile
from seedbed.training.optimizer import OPTIMIZERS, trainable
from seedbed.training.resume import Progress, Resumable
from seedbed.training.run_folder import RunFolder
from seedbed.training.schedules import learning_rate_factor
from seedbed.training.settings import TrainingSettings
from seedbed.training.train_step import Objective, TrainStep, wrap


class Callback(Protocol):
    """Is told what the loop does, on rank 0."""

    def begin(self, step: int, num_steps: int) -> None:
        """The loop is about to go on after `step`."""

    def record(self, line: Mapping[str, Any]) -> None:
        """A line was written to `metrics.jsonl`."""

    def end(self) -> None:
        """The loop has ended, well or not."""


class Validation(NamedTuple):
    """Held-out records, what is measured on them, and the bytes of their text where there is one."""

    source: Source
    objective: MakesExamples
    num_bytes: int | None = None


def train(
    module: nn.Module,
    loader: Loader,
    *,
    objective: Objective,
    settings: TrainingSettings,
    run: RunFolder,
    runtime: Runtime,
    validation: Validation | None = None,
    callbacks: Sequence[Callback] = (),
    fingerprints: Mapping[str, str] | None = None,
    peak_tokens_per_second: float = 0.0,
) -> Progress:
    """Train the module to the settings' last step, going on where the run folder's newest checkpoint stands.

    The module ends with the last weights; `load_best` puts in those that were best on validation. `fingerprints`
    of the data must be the same on resume. `peak_tokens_per_second` is what the machine's measured
    matrix-multiply rate would allow (0: unknown). A signal saves, then raises StoppedEarly, on all ranks after the
    same step; gradients that are not finite raise TrainingError before the optimizer sees them.
    """
    module.to(runtime.device)
    with StopSignals() as signals, signals.hold(), torch.random.fork_rng():
        loop = _Loop(module, objective, settings, runtime, signals)
        loop.loader, loop.validation, loop.peak_tokens_per_second = loader, validation, peak_tokens_per_second
        loop.saved = Resumable(
            module, loop.optimizer, loader, run=run, runtime=runtime, fingerprints=fingerprints or {}
        )
        loop.outputs = [MetricsFile(run.metrics_path), *callbacks] if runtime.is_main else []
        try:
            return loop.run()
        finally:
            for output in loop.outputs:
                output.end()
            module.eval()


class _Loop:
    """One training under way."""

    loader: Loader
    saved: Resumable
    outputs: list[Callback]
    validation: Validation | None
    peak_tokens_per_second: float

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        settings: TrainingSettings,
        runtime: Runtime,
        signals: StopSignals,
    ) -> None:
        self.module, self.settings, self.runtime, self.signals = module, settings, runtime, signals
        self.parameters = trainable(module)
        self.optimizer = OPTIMIZERS.get(settings.optimizer)(module, settings)
        self.compute = TrainStep(module, objective)
        self.stop = False  # agreed by all ranks

    def run(self) -> Progress:
        """Go on from the newest checkpoint to the last step."""
        settings = self.settings
        at, problems = self.saved.load()
        self.at, self.wrapped = at, wrap(self.compute, settings, runtime=self.runtime)
        for output in self.outputs:
            output.begin(at.step, settings.num_steps)
        if at.step or problems:
            self._record({"kind": "resume", "step": at.step, "problems": problems})
        while True:
            last = at.step == settings.num_steps
            if at.evaluated_step < at.step and (last or at.step % settings.evaluate_every_steps == 0):
                self._evaluate()
            if last or self.stop or at.step % settings.checkpoint_every_steps == 0:
                self.saved.save(at)
            if self.stop:
                raise StoppedEarly(
                    f"stopped after step {at.step} of {settings.num_steps} and saved; "
                    "run the same command again to go on"
                )
            if last:
                return at
            self._step()

    def _step(self) -> None:
        """Learn from one global batch."""
        at, settings, runtime = self.at, self.settings, self.runtime
        started = time.perf_counter()
        examples = self.loader.next_step()
        num_targets = sum(len(example.targets) for example in examples)
        if not num_targets:
            raise DataError(
                f"step {at.step + 1}: no record of the batch has a target to learn; look at the data"
            )
        batches = micro_batches(
            examples,
            micro_batch_tokens=settings.micro_batch_tokens,
            rank=runtime.rank,
            world_size=runtime.world_size,
        )
        self.module.train()
        runtime.seed_dropout(settings.seed, "dropout", at.step)
        total = torch.zeros((), device=runtime.device)
        for i, batch in enumerate(batches, 1):
            apart = runtime.world_size > 1 and i < len(batches)  # ranks join their sums once a step
            with self.wrapped.no_sync() if apart else nullcontext():  # type: ignore[operator]
                with runtime.autocast():
                    loss_sum, _ = self.wrapped(batch.to(runtime.device))
                # Divide by the targets of the whole step: a short answer must not outweigh a long one.
                # Data parallelism averages over ranks, so the world size restores the sum.
                (loss_sum * (runtime.world_size / num_targets)).backward()
            total += loss_sum.detach()
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        shared = runtime.all_reduce_sum(
            torch.stack((total, total.new_tensor(float(bool(self.signals.requested)))))
        )
        loss, stop, norm_value = torch.cat(
            (shared, norm[None])
        ).tolist()  # the step's one wait for the device
        loss, self.stop = loss / num_targets, stop > 0
        if not (math.isfinite(loss) and math.isfinite(norm_value)):
            raise self._not_finite(loss, norm_value)
        clip = min(1.0, settings.clip_norm / (norm_value + 1e-6)) if settings.clip_norm else 1.0
        factor = learning_rate_factor(settings, at.step)
        self.optimizer.step(factor, gradient_scale=clip)
        for parameter in self.parameters.values():
            parameter.grad = None
        num_tokens = sum(len(example.input_ids) for example in examples)
        seconds = time.perf_counter() - started
        at.step, at.tokens, at.seconds, at.loss = (
            at.step + 1,
            at.tokens + num_tokens,
            at.seconds + seconds,
            loss,
        )
        line = {
            "kind": "step",
            "step": at.step,
            "loss": loss,
            "learning_rate": settings.learning_rate * factor,
        }
        line |= {"gradient_norm": norm_value, "tokens": at.tokens, "seconds": at.seconds}
        line["tokens_per_second"] = speed = num_tokens / seconds
        if self.peak_tokens_per_second:
            line["peak_fraction"] = speed / self.peak_tokens_per_second
        self._record(line)

    def _evaluate(self) -> None:
        """Measure the validation's loss, the groups of records dealt to the ranks in turn; a signal breaks it off."""
        settings, runtime, at, validation = self.settings, self.runtime, self.at, self.validation
        if validation is None:
            return
        self.module.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        groups = one_pass(
            validation.source,
            validation.objective,
            batch_tokens=settings.micro_batch_tokens or settings.batch_tokens,
            seed=settings.seed,
        )
        for i, examples in enumerate(groups):
            if i % runtime.world_size == runtime.rank:
                with torch.no_grad(), runtime.autocast():
                    loss_sum, num_targets = self.compute(collate(examples).to(runtime.device))
                sums += torch.tensor([loss_sum.item(), num_targets])
            if (i + 1) % runtime.world_size == 0 and self._stop_asked():
                return
        nats, num_targets = runtime.all_reduce_sum(sums.float().to(runtime.device)).tolist()
        loss = nats / num_targets
        line = {"kind": "evaluation", "step": at.step, "loss": loss, "num_targets": int(num_targets)}
        line |= {
            "bits_per_byte": nats / (math.log(2) * validation.num_bytes) if validation.num_bytes else None
        }
        line |= {"tokens": at.tokens, "seconds": at.seconds}
        self._record(line)
        at.evaluated_step = at.step
        if math.isfinite(loss) and (at.best_loss is None or loss < at.best_loss):
            at.best_step, at.best_loss = at.step, loss
            self.saved.save_best(at)

    def _stop_asked(self) -> bool:
        """Tell, on all ranks alike, whether a signal came on any of them."""
        asked = torch.tensor(float(bool(self.signals.requested)), device=self.runtime.device)
        self.stop = self.stop or self.runtime.all_reduce_sum(asked).item() > 0
        return self.stop

    def _record(self, line: Mapping[str, Any]) -> None:
        for output in self.outputs:
            output.record(line)

    def _not_finite(self, loss: float, norm: float) -> TrainingError:
        """Name what is not finite; nothing was updated, so that the checkpoints stay healthy."""
        bad = [n for n, p in self.parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
        where = f" in the gradients of {name_some(bad)}" if bad else ""
        return TrainingError(
            f"step {self.at.step + 1}: the loss is {loss:.4g} and the gradient norm {norm:.4g}, not finite{where}; "
            f"the step was not taken, and the last checkpoint is intact: lower training.learning_rate, "
            f"or use training.precision=float32"
        )
