"""The plan and the progress of a run in a pipe: what trains, and about how long it still takes."""

from collections.abc import Callable
from typing import Any

import pytest

from seedbed.base.units import part_text
from seedbed.cli import progress
from seedbed.cli.progress import TrainingProgress


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of a progress, one for each step."""
    said: list[str] = []
    monkeypatch.setattr(progress, "say", lambda text: said.append(text.replace("\u00a0", " ")))
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    return said


def step(number: int, seconds: float) -> dict[str, Any]:
    return {"kind": "step", "step": number, "loss": 1.0, "seconds": seconds, "tokens_per_second": 10.0}


def test_the_evaluation_before_step_1_is_no_step(lines: list[str]) -> None:
    shown = TrainingProgress()
    shown.begin(0, 101)
    shown.record({"kind": "evaluation", "step": 0, "loss": 2.0, "bits_per_byte": None, "seconds": 120.0})
    shown.record(step(1, 122.0))
    shown.record(step(3, 126.0))
    assert lines[0].startswith("step 0/101  held-out 2.000")
    assert lines[1].endswith("about 3 min 20 s left") and lines[2].endswith("about 3 min 16 s left")


def test_without_such_an_evaluation_all_time_is_of_steps(lines: list[str]) -> None:
    shown = TrainingProgress()
    shown.begin(0, 11)
    shown.record(step(1, 2.0))
    assert lines[0].endswith("about 20 s left")


def test_a_resumed_run_counts_its_own_steps(lines: list[str]) -> None:
    shown = TrainingProgress()
    shown.begin(50, 100)
    shown.record(step(51, 1000.0))  # most of it before the run was stopped
    shown.record(step(60, 1018.0))
    assert "left" not in lines[1] and lines[2].endswith("about 1 min 20 s left")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (3_538_944, 251_116_800, "3,538,944 of 251,116,800 (1.41%)"),
        (2_048, 8_030_000_000, "2,048 of 8,030,000,000 (2.6e-05%)"),
        (50, 100, "50 of 100 (50.00%)"),
        (0, 0, "0 of 0 (0.00%)"),
    ],
)
def test_a_part_has_its_share(part: int, whole: int, text: str) -> None:
    assert part_text(part, whole) == text


def test_a_plan_says_what_an_adapter_trains(seedbed: Callable[..., Any]) -> None:
    sizes = "peft.rank=2 model.d_model=32 model.num_layers=1 training.batch_tokens=64"
    settings = [part for size in sizes.split() for part in ("--set", size)]
    said = seedbed("plan", "gpt2", "--peft", "lora", *settings, "--set", "training.context_tokens=64")
    assert said.code == 0, said.err
    (line,) = [line for line in said.out.splitlines() if line.strip().startswith("trainable")]
    assert " of " in line and line.rstrip().endswith("%)")
    assert "trainable" not in seedbed("plan", "gpt2", *settings[2:]).out
