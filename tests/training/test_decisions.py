"""A training with a budget ends in time, and a resumed one takes the same decisions at the same steps."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.moments import At, crash

from seedbed.base.errors import ConfigError, SeedbedWarning
from seedbed.training.budget import Costs, Deadline
from seedbed.training.decisions import DECISIONS, Decision, Schedule, append_decision, read_decisions
from seedbed.training.metrics import read_metrics
from seedbed.training.settings import SCHEDULES, TrainingSettings, learning_rate_factor

# 5 s of preparation, 40 steps, 5 evaluations of 2 s, one more and 1 s for the end: 58 s.
BUDGETED = {"num_steps": 40, "budget_seconds": 60.0, "evaluate_every_steps": 8, "dropout": 0.1}


def history(folder: Path) -> list[tuple[str, int, Any, Any]]:
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if line["kind"] != "resume"]
    return [(line["kind"], line["step"], line.get("loss"), line.get("learning_rate")) for line in lines]


def settings_of(schedule: str, **changes: Any) -> TrainingSettings:
    return TrainingSettings(num_steps=100, schedule=schedule, warmup_steps=10, **changes)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_shortened_schedule_is_traversed_faster_to_the_rate_of_its_last_step(schedule: str) -> None:
    settings = settings_of(schedule)
    shorter = Schedule(settings, [Decision(40, 80), Decision(60, 70)])
    plain = [learning_rate_factor(settings, step) for step in range(100)]
    factors = [shorter.factor(step) for step in range(70)]
    assert factors[:41] == plain[:41] and factors[-1] == pytest.approx(plain[-1])
    # 99 - 40 steps in 79 - 40, then the rest in 69 - 60.
    speed = 59 / 39
    assert factors[50] == pytest.approx(learning_rate_factor(settings, 40 + 10 * speed))
    at_60 = 40 + 20 * speed
    assert factors[65] == pytest.approx(learning_rate_factor(settings, at_60 + 5 * (99 - at_60) / 9))
    assert [shorter.num_steps(step) for step in (0, 39, 40, 59, 60, 70)] == [100, 100, 80, 80, 70, 70]
    assert sorted(factors[10:], reverse=True) == factors[10:]


def test_a_training_may_end_at_once_or_after_one_step() -> None:
    settings = settings_of("cosine")
    assert Schedule(settings, [Decision(40, 40)]).num_steps(40) == 40
    assert Schedule(settings, [Decision(40, 41)]).factor(40) == learning_rate_factor(settings, 99)
    with pytest.raises(ConfigError, match="30 steps after step 40 are not allowed: choose 40 or more"):
        Schedule(settings, [Decision(40, 30)])


def test_more_steps_continue_with_the_schedule_of_so_many() -> None:
    settings = settings_of("cosine")
    longer = Schedule(settings, [Decision(40, 60), Decision(60, 200)])
    assert longer.factor(60) == learning_rate_factor(replace(settings, num_steps=200), 60)
    assert (longer.num_steps(59), longer.num_steps(60)) == (60, 200)


def test_decisions_are_read_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for decision in (Decision(8, 30, 9.0), Decision(12, 20, 9.0), Decision(10, 50)):
        append_decision(tmp_path, decision)
    # The user's decision after step 10 replaces that after step 12, which is repeated.
    assert read_decisions(tmp_path) == (Decision(8, 30, 9.0), Decision(10, 50))
    path = tmp_path / DECISIONS
    path.write_bytes(path.read_bytes().replace(b'"num_steps": 30', b'"num_steps": 31'))
    assert read_decisions(tmp_path) == (Decision(10, 50),)
    assert read_decisions(tmp_path, [[8, 30, 9.0]]) == (Decision(8, 30, 9.0), Decision(10, 50))


@pytest.fixture
def slowed(tiny: ModuleType) -> Callable[..., tuple[Any, Any]]:
    """Train on a machine that is half as fast after a third of the steps."""

    def start(folder: Path, *crashes: int, slow_from: int = 13) -> tuple[Any, Any]:
        machine = tiny.Machine(slow_from=slow_from)
        callbacks = [machine, *(At("step", step, crash) for step in crashes)]
        begun = machine.now - 5.0
        trained = tiny.start(folder, deadline=machine.deadline(), callbacks=callbacks, **BUDGETED)
        return *trained, machine.now + 3.0 * machine.slowness - begun

    return start


def test_a_machine_that_slows_down_by_half_shortens_the_end(
    tiny: ModuleType, slowed: Any, tmp_path: Path
) -> None:
    _, progress, seconds = slowed(tmp_path)
    assert 54 < seconds < 62.0 and 13 < progress.step < 40
    (first, *more) = read_decisions(tmp_path)
    assert 14 <= first.step <= 19 and first.budget_seconds == 60.0  # seen within a few steps
    assert len(more) <= 2 and all(a.num_steps > b.num_steps for a, b in zip([first], more, strict=False))
    *_, last = (line for line in history(tmp_path) if line[0] == "step")
    assert last[3] == pytest.approx(tiny.SETTINGS.learning_rate * 0.1, rel=0.02)  # the end of the schedule
    assert history(tmp_path)[-1][:2] == ("evaluation", progress.step)


def test_a_machine_as_planned_decides_nothing(slowed: Any, tiny: ModuleType, tmp_path: Path) -> None:
    _, progress, seconds = slowed(tmp_path / "as planned", slow_from=10**9)
    assert progress.step == 40 and seconds == 5 + 40 + 10 + 6 and not (tmp_path / DECISIONS).exists()
    machine = tiny.Machine(slow_from=0, slowness=5.0)
    options = BUDGETED | {"budget_seconds": None}
    _, progress = tiny.start(
        tmp_path / "no budget", deadline=machine.deadline(), callbacks=[machine], **options
    )
    assert progress.step == 40


@pytest.mark.parametrize("crash", [17, 21])
def test_decisions_are_replayed_bit_for_bit_after_a_crash(
    crash: int, tiny: ModuleType, slowed: Any, tmp_path: Path
) -> None:
    whole, progress, _ = slowed(tmp_path / "whole")
    made = read_decisions(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        slowed(tmp_path / "cut", crash)
    known = read_decisions(tmp_path / "cut")
    assert known == tuple(each for each in made if each.step < crash)
    for decision in made[len(known) :]:
        append_decision(tmp_path / "cut", decision)  # which a resume on this clock takes at other steps
    cut, again = tiny.start(tmp_path / "cut", **BUDGETED)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))
    assert (again.step, again.best_loss) == (progress.step, progress.best_loss)


def test_a_lost_file_of_decisions_is_replaced_by_the_checkpoint(
    tiny: ModuleType, slowed: Any, tmp_path: Path
) -> None:
    _, progress, _ = slowed(tmp_path)
    (tmp_path / DECISIONS).write_text("{")
    with pytest.warns(SeedbedWarning, match=r"decisions\.jsonl: 1 line cut or damaged and left out"):
        _, again = tiny.start(tmp_path, **BUDGETED)
    assert again.step == progress.step
    state = json.loads((tmp_path / "checkpoints" / f"{progress.step:06d}" / "state.json").read_text())
    assert state["progress"]["decisions"][-1][1] == progress.step


def test_a_finished_training_is_extended(tiny: ModuleType, tmp_path: Path) -> None:
    options = {"checkpoint_every_steps": 4}
    tiny.start(tmp_path / "run", **options)
    append_decision(tmp_path / "run", Decision(12, 20))
    with pytest.raises(RuntimeError, match="crash"):
        tiny.start(tmp_path / "run", callbacks=[At("step", 15, crash)], **options)
    module, progress = tiny.start(tmp_path / "run", **options)
    steps = [line for line in history(tmp_path / "run") if line[0] == "step"]
    assert progress.step == 20 and [line[1] for line in steps] == list(range(1, 21))
    rates = [
        tiny.SETTINGS.learning_rate * Schedule(tiny.SETTINGS, [Decision(12, 20)]).factor(s) for s in range(20)
    ]
    assert [line[3] for line in steps] == rates
    # The same as a run that decided it when it got there.
    with pytest.raises(RuntimeError, match="crash"):
        tiny.start(tmp_path / "other", callbacks=[At("step", 7, crash)], **options)
    append_decision(tmp_path / "other", Decision(12, 20))
    other, _ = tiny.start(tmp_path / "other", **options)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_one_interrupted_step_shortens_nothing() -> None:
    now = [0.0]
    settings = TrainingSettings(num_steps=100, evaluate_every_steps=100)
    deadline = Deadline(
        Costs(step=1.0, evaluation=0.0, checkpoint=0.0, end=0.0), started=0.0, clock=lambda: now[0]
    )
    deadline.begin(spent_seconds=0.0, budget_seconds=110.0)
    for step in range(1, 51):
        now[0] += 8.0 if step == 20 else 1.0
        deadline.lap("step")
        assert deadline.num_steps(step, 100, settings) == 0
    now[0] += 20.0  # what is left is too short, at the pace of before
    deadline.lap("step")
    assert 51 < deadline.num_steps(51, 100, settings) < 85
    assert deadline.unused_share() == pytest.approx(1 - now[0] / 110)
    deadline.begin(spent_seconds=0.0, budget_seconds=None)
    assert deadline.unused_share() == 0
    deadline.begin(spent_seconds=100.0, budget_seconds=100.0 + 2 * now[0])  # of earlier commands
    assert deadline.unused_share() == pytest.approx(0.5)
    deadline.begin(spent_seconds=200.0, budget_seconds=100.0)
    assert deadline.unused_share() == 0


@pytest.mark.parametrize(
    ("slow_seconds", "least", "most"), [(10, 930, 960), (10**9, 350, 380)], ids=["a pause", "for good"]
)
def test_a_pause_of_the_machine_costs_little_more_than_itself(
    slow_seconds: int, least: int, most: int
) -> None:
    """Steps of 0.1 s, which take a second each from step 300 of 1,000 on: for ten seconds, or for good."""
    now, settings = [0.0], TrainingSettings(num_steps=1000, evaluate_every_steps=1000)
    planned = Costs(step=0.1, evaluation=0.0, checkpoint=0.0, end=0.0)
    deadline = Deadline(planned, started=0.0, clock=lambda: now[0])
    deadline.begin(spent_seconds=0.0, budget_seconds=105.0)
    step, end = 0, 1000
    while step < end:
        step += 1
        now[0] += 1.0 if step > 300 and now[0] < 30.0 + slow_seconds else 0.1
        deadline.lap("step")
        end = deadline.num_steps(step, end, settings) or end
    assert least <= end <= most and 95.0 <= now[0] <= 108.0
