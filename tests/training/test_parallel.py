"""Processes under torchrun are one training: same losses, same bits again, one stop, one writer."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seedbed.base.errors import CheckpointError
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.decisions import read_decisions
from seedbed.training.metrics import read_metrics

# Long enough that the signal arrives before the end.
LONG = {"dropout": 0.1, "num_steps": 120, "evaluate_every_steps": 60, "checkpoint_every_steps": 50}
SCRIPT = Path(__file__).with_name("tiny_training.py")


def torchrun(folder: Path, num_ranks: int = 2, **changes: Any) -> list[str]:
    """The command that trains in `folder` with some processes."""
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(num_ranks),
    ]
    return [*launcher, str(SCRIPT), str(folder), json.dumps(changes)]


def run(folder: Path, num_ranks: int = 2, **changes: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(torchrun(folder, num_ranks, **changes), capture_output=True, text=True, check=False)


def history(folder: Path) -> list[tuple[str, int, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["kind"], line["step"], line["loss"]) for line in lines if line["kind"] != "resume"]


def digests(folder: Path) -> dict[str, str]:
    manifest = folder / "checkpoints" / "000120" / "manifest.json"
    found: dict[str, str] = json.loads(manifest.read_text())["sha256"]
    return {name: digest for name, digest in found.items() if name.endswith(".safetensors")}


@pytest.fixture(scope="module")
def three_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    done = run(folder, 3, **LONG)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begin") == done.stdout.count("step 120\n") == 1  # rank 0 alone speaks
    return folder


def test_the_losses_are_those_of_one_process(tiny: ModuleType, tmp_path: Path) -> None:
    tiny.start(tmp_path / "one")
    done = run(tmp_path / "two", micro_batch_tokens=24)
    assert done.returncode == 0, done.stderr
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    assert [line[:2] for line in one] == [line[:2] for line in two]
    assert [line[2] for line in two] == pytest.approx([line[2] for line in one], rel=1e-5)
    norms = [
        [
            line["gradient_norm"]
            for line in read_metrics(tmp_path / name / "metrics.jsonl")
            if line["kind"] == "step"
        ]
        for name in ("one", "two")
    ]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_a_signal_to_one_rank_stops_all_and_they_resume_bit_for_bit(
    three_ranks: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        torchrun(tmp_path, 3, **LONG), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line == "step 2\n":
                # One of the workers that do not write.
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                ranks = {_rank(int(child)): int(child) for child in children}
                os.kill(ranks["1"], signal.SIGTERM)
                break
        rest, errors = process.stdout.read(), process.stderr.read()
    stopped = Checkpoints(tmp_path / "checkpoints").steps()
    assert len(stopped) == 1 and 2 < stopped[0] < 120 and "end" in rest
    assert errors.count(f"stopped after step {stopped[0]} of 120, saved: run the same command again") == 3
    assert "exitcode  : 75" in errors
    done = run(tmp_path, 3, **LONG)
    assert done.returncode == 0, done.stderr
    assert history(tmp_path) == history(three_ranks)
    assert digests(tmp_path) == digests(three_ranks)


def _rank(pid: int) -> str:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((pair[5:].decode() for pair in pairs if pair.startswith(b"RANK=")), "none")


def test_the_main_rank_shortens_the_training_of_all(tiny: ModuleType, tmp_path: Path) -> None:
    options = {"num_steps": 40, "budget_seconds": 60.0, "evaluate_every_steps": 8}
    done = run(tmp_path / "two", 2, slow_from=13, **options)
    assert done.returncode == 0, done.stderr
    machine = tiny.Machine(slow_from=13)
    tiny.start(tmp_path / "one", deadline=machine.deadline(), callbacks=[machine], **options)
    one, two = (read_decisions(tmp_path / name) for name in ("one", "two"))
    assert one == two and Checkpoints(tmp_path / "two" / "checkpoints").steps()[-1] == one[-1].num_steps < 40


def test_another_number_of_ranks_is_refused_with_the_reason(tiny: ModuleType, three_ranks: Path) -> None:
    before = history(three_ranks)
    with pytest.raises(
        CheckpointError, match=r"trained by 3 processes and cannot resume with 1: .*--nproc-per-node 3"
    ):
        tiny.start(three_ranks, **LONG)
    assert history(three_ranks) == before
