"""Checkpoints are whole or not there; damage is named; the last good one survives everything."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seedbed.base.errors import CheckpointError, TrainingError
from seedbed.training.checkpoints import Checkpoints, verify


def tensors(value: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    weights = {"embed.weight": torch.full((5, 4), float(value)), "bias": torch.full((3,), -float(value))}
    return {"weights": weights, "optimizer": {"all/num_updates": torch.tensor(float(value))}}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def fill(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(step, tensors(step), {"step": step})


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_what_is_saved_comes_back_bit_for_bit(checkpoints: Checkpoints) -> None:
    saved = {"weights": {"a": torch.randn(7, 3), "b": torch.randn(4).bfloat16(), "c": torch.arange(3)}}
    stack = torch.randn(3, 2, 2)
    saved["optimizer"] = {f"m.{i}": row for i, row in enumerate(stack)}  # views of one memory
    checkpoints.save(17, saved, {"loader": {"parts": [1, 2]}})
    found, problems = checkpoints.newest()
    assert found is not None and problems == []
    assert found.step == 17 and found.state == {"loader": {"parts": [1, 2]}}
    for file, content in saved.items():
        got = found.tensors(file)
        assert got.keys() == content.keys()
        assert all(
            torch.equal(got[name], tensor) and got[name].dtype == tensor.dtype
            for name, tensor in content.items()
        )


def test_it_holds_no_pickle_and_a_manifest_that_sha256sum_agrees_with(checkpoints: Checkpoints) -> None:
    fill(checkpoints, 5)
    path = checkpoints.folder / "000005"
    assert sorted(p.name for p in path.iterdir()) == [
        "manifest.json",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    for name, digest in json.loads((path / "manifest.json").read_text())["sha256"].items():
        line = subprocess.run(["sha256sum", path / name], capture_output=True, text=True, check=True).stdout
        assert line.split()[0] == digest
    assert load_file(path / "weights.safetensors")["bias"].tolist() == [-5.0] * 3


def test_none_is_no_error(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() == (None, [])
    assert checkpoints.best() == (None, [])
    assert checkpoints.steps() == []


def test_rotation_keeps_the_newest(checkpoints: Checkpoints) -> None:
    fill(checkpoints, 5, 10, 15)
    assert names(checkpoints) == ["000010", "000015"]


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size - 1)
    elif how == "empty":
        os.truncate(path, 0)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x04
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "one bit"])
@pytest.mark.parametrize(
    "file", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_a_damaged_one_is_named_and_the_last_good_one_used(
    checkpoints: Checkpoints, file: str, how: str
) -> None:
    fill(checkpoints, 5, 10)
    damage(checkpoints.folder / "000010" / file, how)
    found, problems = checkpoints.newest()
    assert found is not None and found.step == 5
    (problem,) = problems
    assert problem.startswith("000010 is damaged: ")
    assert file in problem or (file, how) == (
        "manifest.json",
        "one bit",
    )  # which has the SHA-256 of another file


def test_every_single_bit_matters(checkpoints: Checkpoints) -> None:
    fill(checkpoints, 5)
    folder = checkpoints.folder / "000005"
    for name in ("weights.safetensors", "optimizer.safetensors", "state.json"):
        content = (folder / name).read_bytes()
        for bit in range(0, len(content) * 8, 37):
            broken = bytearray(content)
            broken[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(broken)
            assert verify(folder) == f"000005 is damaged: {name} does not match its SHA-256"
        (folder / name).write_bytes(content)
    assert verify(folder) == ""


def test_where_all_are_damaged_nothing_starts_in_silence(checkpoints: Checkpoints) -> None:
    fill(checkpoints, 5, 10)
    for step in ("000005", "000010"):
        damage(checkpoints.folder / step / "weights.safetensors", "one bit")
    with pytest.raises(
        CheckpointError, match=r"every checkpoint in .* is damaged: 000010 is damaged: .*; 000005 is"
    ):
        checkpoints.newest()
    assert names(checkpoints) == ["000005", "000010"]


def test_a_damaged_one_does_not_count_when_the_next_are_kept(checkpoints: Checkpoints) -> None:
    fill(checkpoints, 5, 10)
    damage(checkpoints.folder / "000010" / "weights.safetensors", "one bit")
    checkpoints.newest()
    assert names(checkpoints) == ["000005", "000010.damaged"]
    fill(checkpoints, 7)
    assert names(checkpoints) == ["000005", "000007"]
    fill(checkpoints, 10)
    assert names(checkpoints) == ["000007", "000010"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("file", ["weights", "optimizer"])
def test_what_is_not_finite_never_takes_the_place_of_a_healthy_one(
    checkpoints: Checkpoints, file: str, value: float
) -> None:
    fill(checkpoints, 5, 10)
    broken: dict[str, Any] = tensors(15)
    name = next(iter(broken[file]))
    broken[file][name].view(-1)[-1] = value
    with pytest.raises(
        TrainingError, match=f"^not finite: {name}; the checkpoint of step 15 was not written"
    ):
        checkpoints.save(15, broken, {})
    with pytest.raises(
        TrainingError, match=f"^not finite: {name}; the best weights of step 15 were not written"
    ):
        checkpoints.save_best(15, broken[file], {})
    assert names(checkpoints) == ["000005", "000010"]
    found, _ = checkpoints.newest()
    assert found is not None and found.step == 10


def test_many_broken_tensors_are_counted(checkpoints: Checkpoints) -> None:
    broken = {f"layer.{i}": torch.full((2,), float("nan")) for i in range(5)}
    with pytest.raises(TrainingError, match=r"^not finite: layer\.0, layer\.1, layer\.2 and 2 more; "):
        checkpoints.save(1, {"weights": broken}, {})


def test_large_finite_values_and_integers_are_healthy(checkpoints: Checkpoints) -> None:
    healthy = {"a": torch.full((9,), 3e38), "n": torch.arange(3), "none": torch.zeros(0)}
    checkpoints.save(1, {"weights": healthy}, {})
    assert checkpoints.steps() == [1]


def test_the_best_replaces_the_best_and_is_never_rotated(checkpoints: Checkpoints) -> None:
    checkpoints.save_best(4, tensors(4)["weights"], {"loss": 2.0})
    checkpoints.save_best(8, tensors(8)["weights"], {"loss": 1.5})
    fill(checkpoints, 5, 10, 15)
    assert names(checkpoints) == ["000010", "000015", "best-000008"]
    best, problems = checkpoints.best()
    assert best is not None and (best.step, best.state, problems) == (8, {"loss": 1.5}, [])
    assert best.tensors("weights")["bias"].tolist() == [-8.0] * 3
    damage(best.path / "weights.safetensors", "one bit")
    none, problems = checkpoints.best()
    assert none is None and problems == [
        "best-000008 is damaged: weights.safetensors does not match its SHA-256"
    ]


def test_what_a_crash_left_half_written_is_cleaned(checkpoints: Checkpoints) -> None:
    fill(checkpoints, 5)
    checkpoints.save_best(4, tensors(4)["weights"], {"loss": 2.0})
    half = checkpoints.folder / "000010.partial"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    checkpoints.clean(keep_best=True)
    assert names(checkpoints) == ["000005", "best-000004"]
    checkpoints.clean(keep_best=False)
    assert names(checkpoints) == ["000005"]


def test_a_step_written_again_replaces_itself(checkpoints: Checkpoints) -> None:
    fill(checkpoints, 5, 10)
    checkpoints.save(10, tensors(11), {"again": True})
    found, _ = checkpoints.newest()
    assert found is not None and found.state == {"again": True}
    assert names(checkpoints) == ["000005", "000010"]


@pytest.mark.parametrize("limit", [10, 4000, 21_000])
def test_a_full_disk_is_one_line_and_loses_nothing(checkpoints: Checkpoints, limit: int) -> None:
    """A limit on the size of files is refused by the system in the midst of a write, as a full disk is."""
    fill(checkpoints, 5, 10)
    code = f"""
import resource, sys, torch
from pathlib import Path
from seedbed.base.errors import HardwareError
from seedbed.training.checkpoints import Checkpoints

resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
big = {{"small": torch.zeros(100), "big": torch.zeros(5000)}}
content = {{"weights": big, "optimizer": big}}
try:
    Checkpoints(Path(sys.argv[1]), keep=1).save(15, content, {{"text": "x" * 3000}})
except HardwareError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, checkpoints.folder], capture_output=True, text=True)
    if limit > 20_480:
        assert (done.returncode, done.stdout) == (0, "")
        assert names(checkpoints) == ["000015"]
    else:
        assert done.stdout.startswith("no space left to write ") and done.stdout.count("\n") == 1, done.stderr
        assert names(checkpoints) == ["000005", "000010"]
        found, problems = checkpoints.newest()
        assert found is not None and (found.step, problems) == (10, [])


def test_a_checkpoint_moves_with_its_folder(checkpoints: Checkpoints, tmp_path: Path) -> None:
    fill(checkpoints, 5)
    shutil.move(checkpoints.folder, tmp_path / "elsewhere")
    found, _ = Checkpoints(tmp_path / "elsewhere").newest()
    assert found is not None and found.step == 5


def test_what_is_not_a_checkpoint_is_left_alone(tmp_path: Path) -> None:
    """Notes in `checkpoints` were deleted, and with a link there whatever it led to."""
    outside = tmp_path / "outside"
    for name in ("notes", "000003-mine", "12", "best-of-all", "000001.old.partial.txt"):
        (outside / name).mkdir(parents=True)
        (outside / name / "file").write_text("mine")
    (outside / "notes.txt").write_text("mine")
    (outside / "000009").symlink_to(outside / "notes")
    before = sorted(path.name for path in outside.iterdir())
    (tmp_path / "checkpoints").symlink_to(outside)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.clean(keep_best=False)
    for step in (5, 6):
        checkpoints.save(step, {"weights": {"a": torch.ones(1)}}, {})
        checkpoints.save_best(step, {"a": torch.ones(1)}, {})
    assert sorted(path.name for path in outside.iterdir()) == sorted([*before, "000006", "best-000006"])
    assert (outside / "notes" / "file").read_text() == "mine"
    assert checkpoints.steps() == [6]
