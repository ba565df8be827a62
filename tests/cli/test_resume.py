"""`seedbed resume` continues a run from its own settings; what refuses a run names it and leaves nothing."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from tests.moments import At, interrupt

from seedbed.api.pretrain import resume
from seedbed.base.errors import StoppedEarly
from seedbed.cli import progress, waiting
from seedbed.cli.pretrain import _print_result
from seedbed.cli.progress import TrainingProgress
from seedbed.cli.waiting import Waiting
from seedbed.training.decisions import Decision, append_decision
from seedbed.training.metrics import read_metrics
from seedbed.training.run_folder import RunFolder


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


def test_a_finished_run_with_a_budget_says_so_too(seedbed: Callable, finished: Path) -> None:
    append_decision(finished, Decision(10, 20, 60.0))
    said = seedbed("resume", finished, "--steps", 20)
    assert said.code == 0 and "is finished after 20 steps" in said.err and "Plan" not in said.err


def test_the_end_says_the_time_of_all_and_what_a_budget_left(
    seedbed: Callable, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = seedbed("resume", finished, "--steps", 22)
    times = r"training time \S+ \w+, planned .* this command \S+ \w+ in all, \S+ \w+ of it before"
    assert re.search(times, " ".join(said.out.split())) and "budget" not in said.out and "Plan" in said.err
    assert "held-out tokens of text are too few for a useful figure" in " ".join(said.out.split())
    for share, is_shown in ((0.1, False), (0.17, True)):
        ended = replace(resume(finished), unused_share=share)
        _print_result(ended, before=31.0, whole=56.0)
        out = " ".join(capsys.readouterr().out.split())
        assert ("of it is unused" in out) is is_shown
    assert "56 s in all, 31 s of it before the training budget 17% of it is unused; `seedbed resume" in out


def test_a_run_that_was_stopped_early_says_what_is_there(
    seedbed: Callable, tiny_run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopAtOnce(At):
        def begin(self, step: int, num_steps: int) -> None:
            interrupt()

    run = tmp_path / "run"
    monkeypatch.setattr(progress, "TrainingProgress", lambda **_: StopAtOnce("step", 0, interrupt))
    said = seedbed("pretrain", corpus, "--base", tiny_run, "--steps", 11, "--out", run)
    assert said.errors[-1].endswith(
        f"stopped before step 1: run the same command again, or `seedbed resume {run}`"
    )
    (run / "settings.toml").unlink()  # as before it is written
    said = seedbed("resume", run)
    assert said.code == 2 and said.errors[0].endswith("run the same `seedbed pretrain` command again")
    said = seedbed("generate", run, "hello")
    assert f"the run in {run} has no model yet; run its command again" in said.errors[0]


def test_a_finished_run_is_extended_with_a_new_report_and_measured_plan(
    seedbed: Callable, finished: Path
) -> None:
    before, lines = losses(finished), (finished / "metrics.jsonl").read_text().splitlines()
    seconds = max(line["seconds"] for line in map(json.loads, lines) if line["kind"] == "step")
    said = seedbed("resume", finished, "--steps", 26, "--json")
    assert said.code == 0, said.err
    made = said.json
    assert made["metrics"]["step"] == made["plan"]["num_steps"] == 26
    assert made["measured"]["seconds"] > seconds  # those of both parts
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
        patch.setattr(progress, "TrainingProgress", lambda **_: At("step", 7, interrupt))
        said = seedbed(*pretrain_command(run))
    assert said.code == StoppedEarly.exit_code
    assert said.errors[-1].endswith(
        f"stopped after step 8 of 20, saved: run the same command again, or `seedbed resume {run}`"
    )
    assert "(checkpoints; training.keep_checkpoints, now 2, lowers it)" in " ".join(said.err.split())
    said = seedbed("resume", run)
    assert said.code == 0 and "resuming after step 8 of 20" in said.err
    assert f"the plan is unchanged: {run}/plan.json" in said.err and "peak memory" not in said.err
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
