"""A process that is killed at any moment resumes to the same bits as an uninterrupted run.

`benchmarks/kill_resume.py` does the same to `seedbed pretrain`, at more moments.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seedbed.training.metrics import read_metrics

SCRIPT = Path(__file__).with_name("tiny_training.py")
OPTIONS = {
    "num_steps": 20,
    "dropout": 0.1,
    "d_model": 128,
    "checkpoint_every_steps": 4,
    "evaluate_every_steps": 6,
}


def start(folder: Path, *before: str) -> subprocess.Popen[str]:
    command = [*before, sys.executable, str(SCRIPT), str(folder), json.dumps(OPTIONS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path) -> None:
    with start(folder) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert output.endswith("end\n")


def digest(folder: Path) -> list[str]:
    last = folder / "checkpoints" / "000020"
    files = [last / "weights.safetensors", last / "optimizer.safetensors"]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def numbers(folder: Path) -> list[tuple[str, int, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["kind"], line["step"], line["loss"]) for line in lines if line["kind"] != "resume"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    return folder


def kill(folder: Path, line: str, meanwhile: Callable[[], bool] = lambda: True) -> None:
    """Kill the run as soon as it has printed `line` and `meanwhile` is true."""
    with start(folder) as process:
        assert process.stdout is not None
        assert line in iter(process.stdout.readline, "")
        while not meanwhile():
            assert process.poll() is None, "the moment was missed"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("line", ["step 5\n", "evaluation 12\n", "step 19\n"])
def test_killed_anywhere(whole: Path, line: str, tmp_path: Path) -> None:
    kill(tmp_path, line)
    check(whole, tmp_path)


def test_killed_while_a_checkpoint_is_written(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    half, whole_one = folder / "000008.partial" / "optimizer.safetensors", folder / "000008"
    kill(
        tmp_path, "step 8\n", lambda: half.exists() or whole_one.exists()
    )  # a fast disk may have ended first
    assert (folder / "000004").exists()
    check(whole, tmp_path)
    assert not list(folder.glob("*.partial"))


def test_killed_again_and_again(whole: Path, tmp_path: Path) -> None:
    for line in ("step 2\n", "step 6\n", "step 11\n"):
        kill(tmp_path, line)
    check(whole, tmp_path)


def check(whole: Path, folder: Path) -> None:
    """Resume to the end: the same bits, and no more repeated steps than between two checkpoints."""
    before = len((folder / "metrics.jsonl").read_text().splitlines())
    finish(folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) > before
    assert digest(folder) == digest(whole)
    assert numbers(folder) == numbers(whole)
    done: list[int] = []
    for line in map(json.loads, lines):
        if line["kind"] == "resume":
            assert not done or done[-1] - line["step"] <= OPTIONS["checkpoint_every_steps"]
        elif line["kind"] == "step":
            done.append(line["step"])


def hang_up(folder: Path, *before: str) -> tuple[int, str]:
    """Start a run, send SIGHUP after step 5, and return the exit code and the last line on stderr."""
    with start(folder, *before) as process:
        assert process.stdout is not None and process.stderr is not None
        assert "step 5\n" in iter(process.stdout.readline, "")
        os.kill(process.pid, signal.SIGHUP)
        _, errors = process.communicate()
    return process.returncode, errors.strip().splitlines()[-1] if errors else ""


def test_a_closed_terminal_saves(whole: Path, tmp_path: Path) -> None:
    code, error = hang_up(tmp_path)
    assert code != 0 and (found := re.search(r"stopped after step (\d+) of 20, saved", error))
    assert (tmp_path / "checkpoints" / f"{int(found[1]):06}").is_dir()
    check(whole, tmp_path)


def test_under_nohup_a_closed_terminal_changes_nothing(whole: Path, tmp_path: Path) -> None:
    code, _ = hang_up(tmp_path, "nohup")
    assert code == 0
    assert digest(tmp_path) == digest(whole)
