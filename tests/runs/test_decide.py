"""What the machine decided before step 1 is read again on resume, never measured again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from seedbed.api.pretrain import pretrain, resume
from seedbed.base.errors import ConfigError, SeedbedWarning
from seedbed.runs import budget, decide
from seedbed.runs.budget import most_steps
from seedbed.runs.train import Run
from seedbed.select import rehearsal
from seedbed.training.decisions import read_decisions

SETTINGS = {
    "model.d_model": 16,
    "model.num_layers": 1,
    "tokenizer.kind": "bytes",
    "training.batch_tokens": 64,
    "training.context_tokens": 16,
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start or resume one tiny run."""
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps({"text": f"document {i} of a few words"}) for i in range(60)))

    def begin(**options: Any) -> Run:
        overrides = [f"{key}={value}" for key, value in SETTINGS.items()]
        return pretrain(str(corpus), out=tmp_path / "run", family="gpt2", overrides=overrides, **options)

    return begin


def never() -> None:
    raise AssertionError("the machine was probed again")


def without_preparation(monkeypatch: pytest.MonkeyPatch) -> float:
    """The start of a command, such that no time has passed before step 1, and a minute is left at the end."""
    started = perf_counter() + 60
    monkeypatch.setattr(budget, "perf_counter", lambda: started)
    return started


def test_a_resumed_run_keeps_its_plan(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[tuple[Any, Any]] = []
    options = {"budget_seconds": 3.0, "started": without_preparation(monkeypatch)}
    first = run(**options, on_plan=lambda plan, settings: plans.append((plan, settings)))
    monkeypatch.setattr(decide, "probe", never)
    again = run(**options, on_plan=lambda plan, settings: never())  # it is finished
    assert again.plan == first.plan and again.measured == first.measured
    ((plan, settings),) = plans
    assert plan.num_steps == settings.training.num_steps == first.metrics["step"] >= 10
    assert plan.seconds <= 3.0 and settings.training.precision in ("float32", "bfloat16")


def test_a_budget_that_is_too_short_is_refused_before_anything_is_trained(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    message = (
        r"a budget of 1\.0.s is too short: 0.s have passed, and 10 steps .* take about .*; give --budget 5s"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        run(budget_seconds=1.0, started=without_preparation(monkeypatch))
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_short_budget_leaves_no_time_to_compile(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "training.compile", "true")
    with pytest.raises(
        ConfigError, match=r"too short for training\.compile=true, .* give --budget 600s or more"
    ):
        run(budget_seconds=30.0, started=without_preparation(monkeypatch))


def test_a_finished_run_is_extended_for_a_time(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, started = run(steps=10), without_preparation(monkeypatch)
    longer = resume(first.run, budget_seconds=2.5, started=started)
    (decision,) = read_decisions(first.run)
    assert decision.step == 10 < decision.num_steps == longer.metrics["step"] == longer.plan["num_steps"]
    # The time of the last checkpoint is in what was measured, and not in that checkpoint.
    assert decision.budget_seconds is not None
    assert 2.5 < decision.budget_seconds <= 2.5 + first.measured["seconds"]
    assert longer.measured["seconds"] > first.measured["seconds"]
    with pytest.raises(ConfigError, match=r"a budget of 1\.0.s is too short: .* a step, .* give --budget 5s"):
        resume(first.run, budget_seconds=1.0, started=started)


def test_a_lost_plan_is_restored_or_made_again_with_what_was_decided(run: Any) -> None:
    first = run(steps=10)
    (first.run / "plan.json").write_text("{")
    with pytest.warns(SeedbedWarning, match=r"plan\.json is damaged or was changed .*; it is restored"):
        assert run(steps=10).plan == first.plan
    (first.run / "plan.json").write_text("{")
    shutil.rmtree(first.run / ".copies")  # runs of before they were written have none
    again = run(steps=10)
    assert again.plan["bytes"]["weights"] == first.plan["bytes"]["weights"]
    assert again.metrics["step"] == 10


@pytest.mark.parametrize("seconds, steps", [(0.0, 50), (60.0, 50), (75.5, 65), (1e9, 200)])
def test_the_most_steps_within_a_time(seconds: float, steps: int) -> None:
    """A step costs 1 s and all of them 10 more; at least 50, at most `at_most`."""
    assert most_steps(lambda n: n + 10.0, seconds, at_most=200, at_least=50) == steps
