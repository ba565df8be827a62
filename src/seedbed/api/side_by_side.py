"""Several runs on the same text: networks of one size, and the number of steps that fits the budget."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from seedbed.api.pretrain import pretrain
from seedbed.base.errors import ConfigError
from seedbed.base.files import write_file
from seedbed.base.hardware import ResidentPeak
from seedbed.base.runtime import Runtime
from seedbed.models.network import family, parameter_count
from seedbed.runs.budget import most_steps
from seedbed.runs.decide import plan_run
from seedbed.runs.prepare import prepare_run
from seedbed.runs.start import run_settings
from seedbed.select.plan import Plan
from seedbed.training.run_folder import RunFolder

MIN_STEPS = 50
Arguments = Callable[[str, int], dict[str, Any]]


def shared_steps(
    out: Path,
    data: str,
    titles: Mapping[str, str],
    arguments: Arguments,
    *,
    seconds: float,
    budget_seconds: float,
) -> int:
    """The number of steps that each of the runs `titles` can take in `seconds`, planning included.

    `arguments(name, steps)` returns a run's arguments for `pretrain`. The number is planned once and written
    to `demo.json` for the next call, which must have the same runs and budget.
    """
    started = time.perf_counter()
    note = out / "demo.json"
    if note.exists():
        planned = json.loads(note.read_text())
        if planned["titles"] != dict(titles):
            raise ConfigError(f"{out} contains a demo of other networks; choose another folder with --out")
        if planned["budget_seconds"] != budget_seconds:
            raise ConfigError(
                f"{out} contains a demo with a budget of {planned['budget_seconds']:g} s; "
                "give the same budget to resume it, or another folder"
            )
        return int(planned["steps"])
    plans = {name: _plan(out / "runs" / name, data, arguments(name, MIN_STEPS)) for name in titles}
    left = seconds - (time.perf_counter() - started)

    def cost(steps: int) -> float:
        settings = {name: run_settings(data, **arguments(name, steps))[0].training for name in titles}
        return sum(plan.for_settings(settings[name]).seconds for name, plan in plans.items())

    at_most = int(max(0.0, left) / sum(plan.step_seconds for plan in plans.values()))
    num_steps = most_steps(cost, left, at_most=at_most, at_least=MIN_STEPS)
    planned = {"budget_seconds": budget_seconds, "steps": num_steps, "titles": dict(titles)}
    write_file(note, json.dumps(planned).encode())
    return num_steps


def train_all(
    out: Path,
    data: str,
    names: Iterable[str],
    arguments: Arguments,
    steps: int,
    *,
    callback: Callable[[str], Any] | None,
    on_plan: Callable[[str, Any, Any], None] | None,
) -> dict[str, dict[str, Any]]:
    """Train the runs one after the other, or resume them -> the summary of each.

    `callback` and `on_plan` are those of `demo`.
    """
    return {
        name: pretrain(
            data,
            out=out / "runs" / name,
            callbacks=[callback(name)] if callback else [],
            on_plan=partial(on_plan, name) if on_plan else None,
            **arguments(name, steps),
        ).summary()
        for name in names
    }


def lstm_width(num_parameters: int, *, num_layers: int, vocab_size: int) -> int:
    """The width of the LSTM whose number of parameters is nearest to the given one."""
    lstm = replace(family("lstm").sized(64, num_layers), vocab_size=vocab_size)

    def distance(width: int) -> int:
        return abs(parameter_count(replace(lstm, d_model=width)) - num_parameters)

    return min(range(16, 512), key=distance)


def _plan(folder: Path, data: str, arguments: dict[str, Any]) -> Plan:
    """The plan that `pretrain` would make for a run; its tokenizer and shards are kept for it."""
    settings, start = run_settings(data, **arguments)
    resident = ResidentPeak()
    with (
        Runtime.from_environment(num_threads=settings.training.num_threads) as runtime,
        RunFolder(folder) as run,
    ):
        return plan_run(prepare_run(settings, start, run), runtime, resident)
