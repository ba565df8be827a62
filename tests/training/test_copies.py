"""A run's small files are kept twice: any damage to one of them, its copy or the manifest is put right."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from seedbed.base.errors import CheckpointError, SeedbedWarning
from seedbed.training.run_folder import Copies, RunFolder, damaged_files

CONTENT = {
    "settings.toml": "learning_rate = 0.001\n",
    "plan.json": json.dumps({"num_steps": 30, "seconds": 1.5}, indent=2),
    "examples.json": '{"examples": []}',
    "tokenizer/tokenizer.json": "{}",
    "tokenizer/additional_chat_templates/tool.jinja": "{{ messages }}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with its copies and one checkpoint."""
    run = tmp_path / "run"
    for name, text in CONTENT.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    Copies(run).write()
    RunFolder(run).checkpoints.save(5, {"weights": {"a": torch.ones(1)}}, {})
    return run


def files(folder: Path) -> dict[str, bytes]:
    """The small files and their copies."""
    names = [*CONTENT, *(f".copies/{name}" for name in (*CONTENT, "manifest.json"))]
    return {name: (folder / name).read_bytes() for name in names}


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def test_nothing_is_said_of_files_that_are_whole(folder: Path) -> None:
    assert damaged_files(folder) == []
    with RunFolder(folder) as run:
        assert run.problems == []


@pytest.mark.parametrize("name", [*CONTENT, *(f".copies/{n}" for n in (*CONTENT, "manifest.json"))])
def test_a_bit_that_flips_is_named_and_put_right(name: str, folder: Path) -> None:
    before = files(folder)
    for bit in random.Random(name).sample(range(8 * len(before[name])), 12):
        flip(folder / name, bit)
        problems = damaged_files(folder)
        if not problems:  # white space of a plan or of a manifest
            assert name in ("plan.json", ".copies/plan.json", ".copies/manifest.json")
            (folder / name).write_bytes(before[name])
            continue
        assert name in problems[0]
        with pytest.warns(SeedbedWarning, match="it is restored"), RunFolder(folder) as run:
            assert run.problems == problems
        assert files(folder) == before
        assert damaged_files(folder) == []


def test_what_the_user_changed_is_kept_beside_what_is_restored(folder: Path) -> None:
    (folder / "settings.toml").write_text("learning_rate = 0.01\n")
    message = r"settings\.toml is damaged or was changed after the training began; it is restored"
    with pytest.warns(SeedbedWarning, match=message), RunFolder(folder):
        assert (folder / "settings.toml").read_text() == CONTENT["settings.toml"]
    assert (folder / "settings.toml.damaged").read_text() == "learning_rate = 0.01\n"


def test_what_is_missing_is_restored(folder: Path) -> None:
    before = files(folder)
    (folder / "plan.json").unlink()
    shutil.rmtree(folder / "tokenizer")
    with pytest.warns(SeedbedWarning, match="is missing; it is restored"), RunFolder(folder):
        assert files(folder) == before


def test_a_file_whose_copy_is_damaged_too_is_refused_by_name(folder: Path) -> None:
    flip(folder / "settings.toml", 1)
    flip(folder / ".copies" / "settings.toml", 9)
    assert damaged_files(folder) == ["settings.toml and its copy are both damaged"]
    for _ in range(2):  # the lock is free again
        with pytest.raises(CheckpointError, match=r"settings\.toml and its copy .* are both damaged"):
            RunFolder(folder).__enter__()


def test_what_was_measured_is_no_damage(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"measured": {"seconds": 2.0}}))
    assert damaged_files(folder) == []
    (folder / "plan.json").write_text(json.dumps(plan | {"seconds": 2.0}))
    assert damaged_files(folder) == ["plan.json is damaged or was changed after the training began"]


def test_without_a_checkpoint_nothing_is_restored(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints")
    (folder / "settings.toml").write_text("learning_rate = 0.01\n")
    with RunFolder(folder) as run:
        assert run.problems == []
        run.copies.write()
    assert (folder / ".copies" / "settings.toml").read_text() == "learning_rate = 0.01\n"
