"""A run's folder is locked, settled once, and refuses to become another run."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from seedbed.base.errors import CheckpointError, ConfigError, SeedbedWarning, StoppedEarly
from seedbed.training.run_folder import Copies, RunFolder
from seedbed.training.settings import TrainingSettings


@dataclass(frozen=True)
class Settings:
    """Two tables, as a run has them."""

    training: TrainingSettings = field(default_factory=TrainingSettings)
    name: str = "demo"
    base: str | None = None


def with_checkpoint(path: Path, settings: Settings) -> None:
    with RunFolder(path) as run:
        run.settle(settings)
        run.checkpoints.save(5, {"weights": {"a": torch.ones(1)}}, {})


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from seedbed.training.run_folder import RunFolder\n"
        "with RunFolder(sys.argv[1]):\n"
        "    print('in', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "run"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "in\n"
        message = f"in use by process {other.pid}, .*wait for it, stop it, or choose another folder"
        with pytest.raises(CheckpointError, match=message), RunFolder(tmp_path / "run"):
            pytest.fail("two in one folder")
        other.kill()  # the lock dies with its process
        other.wait()
        with RunFolder(tmp_path / "run"):
            pass


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), RunFolder(tmp_path):
            raise ValueError("inside")


def test_ranks_that_write_nothing_take_no_lock(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run", writable=False):
        pass
    with RunFolder(tmp_path / "other", writable=False) as run:
        run.settle(Settings())
    assert not (tmp_path / "other").exists()


def test_settings_are_written_with_every_default(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.settle(Settings())
    text = run.settings_path.read_text()
    assert 'name = "demo"' in text and "# base is not set" in text
    assert "learning_rate = 0.001" in text and "keep_checkpoints = 2" in text


def test_without_a_checkpoint_settings_are_free(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with RunFolder(tmp_path) as run:
            assert run.saved_settings() is None
            run.settle(Settings(name=name))
    assert 'name = "other"' in run.settings_path.read_text()


def test_the_same_settings_resume_and_others_are_refused_by_name(tmp_path: Path) -> None:
    with_checkpoint(tmp_path, Settings())
    with RunFolder(tmp_path) as run:
        run.settle(Settings())
        saved = run.saved_settings()
        assert saved is not None and saved["training"]["num_steps"] == 1000
        changed = Settings(training=TrainingSettings(learning_rate=3e-4, seed=1), name="demo")
        with pytest.raises(CheckpointError) as caught:
            run.settle(changed)
    message = str(caught.value)
    assert (
        "training.learning_rate was 0.001, now 0.0003" in message and "training.seed was 0, now 1" in message
    )
    assert "name was" not in message and "\n" not in message and "another folder" in message
    assert "learning_rate = 0.001" in run.settings_path.read_text()


def test_entering_cleans_what_a_crash_left(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    for name in ("000010.partial", "best-000004"):
        (checkpoints / name).mkdir(parents=True)
        (checkpoints / name / "state.json").write_text(json.dumps({}))
    with RunFolder(tmp_path):
        # The best weights belong to no checkpoint, so perhaps to other settings.
        assert list(checkpoints.iterdir()) == []


@pytest.mark.parametrize("name", ["settings.toml", "plan.json", "tokenizer/tokenizer.json"])
def test_a_pipe_in_place_of_a_small_file_is_restored(name: str, tmp_path: Path) -> None:
    """A resume waited for it for ever."""
    with_checkpoint(tmp_path, Settings())
    (tmp_path / "tokenizer").mkdir()
    for each in ("plan.json", "tokenizer/tokenizer.json"):
        (tmp_path / each).write_text("{}")
    Copies(tmp_path).write()
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.warns(SeedbedWarning, match=f"{name} is missing; it is restored"), RunFolder(tmp_path):
        assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json", "manifest.json"])
def test_a_pipe_in_a_checkpoint_is_damage(name: str, tmp_path: Path) -> None:
    with_checkpoint(tmp_path, Settings())
    file = tmp_path / "checkpoints" / "000005" / name
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CheckpointError, match=r"000005 is damaged: .*not a regular file"):
        RunFolder(tmp_path).checkpoints.newest()


def test_a_refused_run_leaves_nothing_and_a_stopped_one_what_it_made(tmp_path: Path) -> None:
    def fail(path: Path, error: Exception) -> None:
        with pytest.raises(type(error)), RunFolder(path) as run:
            (run.path / "tokenizer").mkdir()
            (run.path.parent / ".shards" / "a").mkdir(parents=True, exist_ok=True)
            raise error

    fail(tmp_path / "new" / "run", ConfigError("too short"))
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    fail(tmp_path / "mine", ConfigError("too short"))
    assert (tmp_path / "mine" / "tokenizer").exists() and (tmp_path / ".shards" / "a").exists()
    fail(tmp_path / "cut" / "run", StoppedEarly("stopped"))
    assert (tmp_path / "cut" / "run" / "tokenizer").exists()
