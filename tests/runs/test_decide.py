"""What the machine decided before step 1 is read again on resume, never measured again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from seedbed.api.pretrain import pretrain
from seedbed.base.errors import SeedbedWarning
from seedbed.runs import decide
from seedbed.runs.decide import most_steps
from seedbed.runs.train import Run
from seedbed.select import rehearsal

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


def test_a_resumed_run_keeps_its_plan(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(budget_seconds=1.0)
    plans: list[tuple[Any, Any]] = []
    monkeypatch.setattr(decide, "probe", never)
    again = run(budget_seconds=1.0, on_plan=lambda plan, settings: plans.append((plan, settings)))
    assert again.plan == first.plan and again.measured == first.measured
    ((plan, settings),) = plans
    assert plan.num_steps == settings.training.num_steps == first.metrics["step"]
    assert settings.training.precision in ("float32", "bfloat16")


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
    """A step costs 1 s and all of them 10 more; at least MIN_STEPS, at most `at_most`."""
    assert most_steps(lambda n: n + 10.0, seconds, at_most=200) == steps
