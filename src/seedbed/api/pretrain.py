"""Pre-training: from a corpus to a base model, or from a base to another model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seedbed.base.errors import UsageError
from seedbed.base.notices import Notify, silent
from seedbed.base.signals import StopSignals
from seedbed.data.shown import Shown
from seedbed.runs.prepare import prepare_run
from seedbed.runs.settings import decided
from seedbed.runs.start import run_settings
from seedbed.runs.train import OnPlan, Run, train
from seedbed.training.loop import Callback
from seedbed.training.run_folder import RunFolder

# Settings of the training that do not change its examples.
_FREE = (
    "precision",
    "num_steps",
    "budget_seconds",
    "evaluate_every_steps",
    "evaluate_tokens",
    "checkpoint_every_steps",
)


def pretrain(
    data: str,
    *,
    out: Path | str,
    callbacks: Sequence[Callback] = (),
    on_plan: OnPlan | None = None,
    notify: Notify = silent,
    device: str = "auto",
    **options: Any,
) -> Run:
    """Train a model on `data` in the run folder `out`, or resume the run that is there.

    `options` are the arguments of `run_settings`; `on_plan(plan, settings)` is called before the first step;
    `notify` gets a line for each part of the work before it.
    Errors: StoppedEarly after a signal, when all is saved; the other SeedbedErrors in one line each.
    """
    with StopSignals():  # a base takes its time
        settings, start = run_settings(data, out=out, notify=notify, **options)
    return train(
        settings, out, start=start, callbacks=callbacks, on_plan=on_plan, notify=notify, device=device
    )


def show(data: str, *, out: Path | str, num: int = 3, **options: Any) -> list[Shown]:
    """The first `num` training examples of the run that `pretrain` would train, without training.

    The tokenizer and the shards are kept for the run. `options` are the arguments of `run_settings`; a run
    that has begun refuses other settings, except for the length of its training.
    """
    if num < 1:
        raise UsageError(f"--show {num} is not allowed: give the number of examples, 1 or more")
    with StopSignals():
        settings, start = run_settings(data, out=out, **options)
        with RunFolder(out, keep_checkpoints=settings.training.keep_checkpoints) as run:
            if (saved := run.saved_settings()) is not None:
                then = saved["training"]
                run.refuse_difference(saved, decided(settings, **{k: then[k] for k in _FREE if k in then}))
            return prepare_run(settings, start, run).first_examples(num)
