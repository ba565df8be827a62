"""`seedbed resume` continues a run from its own settings; what refuses a run names it and leaves nothing."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from seedbed.base.errors import StoppedEarly
from seedbed.cli import progress, waiting
from seedbed.cli.progress import TrainingProgress
from seedbed.cli.waiting import Waiting
from seedbed.training.metrics import read_metrics
from seedbed.training.run_folder import RunFolder


class StopAfter:
    """Interrupts the training after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def begin(self, step: int, num_steps: int) -> None:
        """Nothing."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Send the signal after the step."""
        if (line["kind"], line["step"]) == ("step", self.step):
            os.kill(os.getpid(), signal.SIGINT)

    def end(self) -> None:
        """Nothing."""


def losses(run: Path) -> list[tuple[str, int, float]]:
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["kind"] != "resume"]
    return [(line["kind"], line["step"], line["loss"]) for line in lines]


@pytest.fixture
def finished(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(tiny_run, tmp_path / "tiny"))


def test_a_finished_run_says_so_and_how_to_extend_it(
    seedbed: Callable, pretrain_command: Callable, finished: Path
) -> None:
    for command in (pretrain_command(finished), ["resume", finished], ["resume", finished, "--steps", 20]):
        said = seedbed(*command)
        assert said.code == 0 and "Trained 20 steps" in said.out
        how = f"is finished after 20 steps; `seedbed resume {finished} --steps N` or"
        assert how in " ".join(said.err.split()) and "Plan" not in said.err and "resuming" not in said.err


def test_a_finished_run_is_extended_with_a_new_report_and_measured_plan(
    seedbed: Callable, finished: Path
) -> None:
    before, first = losses(finished), json.loads((finished / "plan.json").read_text())
    said = seedbed("resume", finished, "--steps", 26, "--json")
    assert said.code == 0, said.err
    made = said.json
    assert made["metrics"]["step"] == made["plan"]["num_steps"] == 26
    assert made["measured"]["seconds"] > first["measured"]["seconds"]
    assert losses(finished)[: len(before)] == before and losses(finished)[-1][:2] == ("evaluation", 26)
    assert "| weights of step | 26 of 26" in (finished / "model" / "README.md").read_text()
    assert seedbed("doctor", finished, "--json").json["holds"]["steps"] == "26 of 26"
    assert "num_steps = 20" in (finished / "settings.toml").read_text()
    again = seedbed("resume", finished, "--steps", 25)
    assert again.code == 2 and "--steps 25 is less than the 26 steps that" in again.errors[0]


def test_a_stopped_run_resumes_without_its_command(
    seedbed: Callable, pretrain_command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(progress, "TrainingProgress", lambda **_: StopAfter(7))
        said = seedbed(*pretrain_command(run))
    assert said.code == StoppedEarly.exit_code
    assert said.errors[-1].endswith(
        f"stopped after step 8 of 20, saved: run the same command again, or `seedbed resume {run}`"
    )
    said = seedbed("resume", run)
    assert said.code == 0 and "resuming after step 8 of 20" in said.err
    assert seedbed(*pretrain_command(tmp_path / "whole")).code == 0
    assert losses(run) == losses(tmp_path / "whole")


def test_a_run_finds_its_data_from_another_folder(
    seedbed: Callable,
    pretrain_command: Callable,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "notes.jsonl").write_bytes(corpus.read_bytes())
    monkeypatch.chdir(tmp_path)
    command = pretrain_command(Path("runs/a"))
    command[1] = "notes.jsonl"
    assert seedbed(*command).code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    said = seedbed("resume", "../runs/a", "--steps", "22", "--json")
    assert said.code == 0 and said.json["metrics"]["step"] == 22, said.err
    assert Path.cwd() == tmp_path / "elsewhere"
    (tmp_path / "notes.jsonl").rename(tmp_path / "moved.jsonl")
    said = seedbed("resume", "../runs/a", "--steps", "24")
    assert said.code == 2 and "was trained on notes.jsonl, which is not in this folder, nor" in said.errors[0]


def test_what_is_not_a_run_is_refused_and_other_settings_name_the_verb(
    seedbed: Callable, pretrain_command: Callable, tiny_run: Path, tmp_path: Path
) -> None:
    said = seedbed("resume", tmp_path / "none")
    assert said.code == 2 and "is not a run: it has no settings.toml" in said.errors[0]
    assert not (tmp_path / "none").exists()
    both = seedbed("resume", tiny_run, "--steps", 30, "--budget", "9s")
    assert both.code == 2 and "give one of them" in both.errors[0]
    longer = seedbed(*[each if each != "20" else "40" for each in pretrain_command(tiny_run)])
    assert longer.code == 1 and "training.num_steps was 20, now 40; undo" in longer.errors[-1]
    assert f"`seedbed resume {tiny_run}`, which needs no settings" in longer.errors[-1]


def test_a_refused_run_leaves_no_folder(
    seedbed: Callable, pretrain_command: Callable, tmp_path: Path
) -> None:
    command = pretrain_command(tmp_path / "runs" / "new")
    command[1] = str(tmp_path / "missing.txt")
    assert seedbed(*command).code != 0
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    with RunFolder(tmp_path / "mine"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_long_wait_is_shown_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    shown, again = Event(), Event()

    def say(text: str) -> None:
        lines.append(text)
        (again if len(lines) > 1 else shown).set()

    monkeypatch.setattr(waiting, "say", say)
    with Waiting("loading a model", first_seconds=0.0, every_seconds=0.01):
        assert shown.wait(20) and again.wait(20)
    assert lines[0].startswith("loading a model") and lines[1].endswith(" so far")
    number = len(lines)
    with Waiting("loading a model"):
        pass
    assert len(lines) == number


def test_a_shortened_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(progress, "say", lines.append)
    shown = TrainingProgress()
    shown.begin(0, 40)
    shown.record({"kind": "decision", "step": 12, "num_steps": 30, "budget_seconds": 60.0})
    assert lines == ["slower than planned: ends after step 30 of 40 to keep the budget"]
