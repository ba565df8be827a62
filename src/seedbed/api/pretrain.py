"""Pre-training: from a corpus to a base model, or from a base to another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from time import perf_counter
from typing import Any

from seedbed.base.arguments import path_of
from seedbed.base.errors import ConfigError, UsageError
from seedbed.base.notices import Notify, silent
from seedbed.base.settings import read_toml
from seedbed.base.signals import StopSignals
from seedbed.data.builtin import BUILTIN
from seedbed.data.shown import Shown
from seedbed.runs.budget import More
from seedbed.runs.prepare import prepare_run
from seedbed.runs.settings import decided
from seedbed.runs.start import load_run, run_settings
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
    started: float | None = None,
    **options: Any,
) -> Run:
    """Train a model on `data` in the run folder `out`, or resume the run that is there.

    `options` are the arguments of `run_settings`; `on_plan(plan, settings)` is called before the first step;
    `notify` gets a line for each part of the work. A budget counts from `started` on `time.perf_counter`, or
    from this call. Errors: StoppedEarly after a signal, when all is saved; the other SeedbedErrors in one
    line each.
    """
    started = perf_counter() if started is None else started
    with StopSignals():  # a base takes its time
        settings, start = run_settings(data, out=out, notify=notify, **options)
    return train(
        settings,
        out,
        start=start,
        callbacks=callbacks,
        on_plan=on_plan,
        notify=notify,
        device=device,
        started=started,
    )


def resume(
    run: Path | str,
    *,
    steps: int | None = None,
    budget_seconds: float | None = None,
    notify: Notify = silent,
    started: float | None = None,
    **how: Any,
) -> Run:
    """Continue the run in a folder from its own settings: to its end, to `steps` in all, or for a time.

    Relative paths in its settings are those of the folder where it was started, which is this one or one that
    the run is in. `how` and the errors are those of `pretrain`.
    """
    started = perf_counter() if started is None else started
    if steps is not None and budget_seconds is not None:
        raise ConfigError("--steps and --budget both say how long to train; give one of them")
    folder = path_of("run", run).absolute()
    settings_file = folder / "settings.toml"
    if (folder / ".copies" / settings_file.name).is_file():
        with RunFolder(run):
            pass  # which restores damaged settings
    if not settings_file.is_file():
        if (folder / ".lock").exists():
            raise UsageError(
                f"{run} was stopped while it was prepared, before its settings were saved; run the same "
                "`seedbed pretrain` command again"
            )
        raise UsageError(
            f"{run} is not a run: it has no settings.toml; give the folder of a run, or make one with "
            "`seedbed pretrain DATA --out RUN`"
        )
    more = None if steps is None and budget_seconds is None else More(steps, budget_seconds)
    place = _place(folder, read_toml(settings_file))
    out = Path(run) if place == Path.cwd() else folder
    with chdir(place):
        with StopSignals():
            settings, start = load_run(settings_file, out=out, notify=notify)
        return train(settings, out, start=start, more=more, notify=notify, started=started, **how)


def _place(run: Path, settings: Mapping[str, Any]) -> Path:
    """The folder in which the relative paths of a run's settings exist: this one, or one around the run."""
    data, tokenizer = settings.get("data", {}), settings.get("tokenizer", {})
    named = [data.get("train"), data.get("validation"), tokenizer.get("path")]
    paths = [Path(each) for each in named if each is not None and each not in BUILTIN]
    places = [Path.cwd(), *run.parents]
    for place in places:
        if all((place / path).exists() for path in paths):
            return place
    lost = next(path for path in paths if not any((place / path).exists() for place in places))
    raise UsageError(
        f"{run} was trained on {lost}, which is not in this folder, nor in one around the run; "
        "put it back, or change to the folder from which the run was started"
    )


def show(data: str, *, out: Path | str, num: int = 3, notify: Notify = silent, **options: Any) -> list[Shown]:
    """The first `num` training examples of the run that `pretrain` would train, without training.

    The tokenizer and the shards are kept for the run. `options` are the arguments of `run_settings`; a run
    that has begun refuses other settings, except for the length of its training.
    """
    if num < 1:
        raise UsageError(f"--show {num} is not allowed: give the number of examples, 1 or more")
    with StopSignals():
        settings, start = run_settings(data, out=out, notify=notify, **options)
        with RunFolder(out, keep_checkpoints=settings.training.keep_checkpoints) as run:
            if (saved := run.saved_settings()) is not None:
                then = saved["training"]
                run.refuse_difference(saved, decided(settings, **{k: then[k] for k in _FREE if k in then}))
            return prepare_run(settings, start, run, notify=notify).first_examples(num)
