"""A run whose folder is deleted while it trains stops at the next step, in one line."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest
from tests.moments import At

from seedbed.base.errors import CheckpointError


def test_a_run_without_its_folder_stops(tiny: ModuleType, tmp_path: Path) -> None:
    """It trained on, and later "succeeded" without metrics."""
    run = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"run was deleted or renamed while .*again") as caught:
        tiny.start(run, callbacks=[At("step", 5, lambda: shutil.rmtree(run))])
    assert "\n" not in str(caught.value) and not (run / "checkpoints").exists()


@pytest.mark.parametrize("step", [5, 6])
def test_a_renamed_run_stops_and_resumes_in_its_new_place(
    step: int, tiny: ModuleType, tmp_path: Path
) -> None:
    """It trained on in a second folder that nothing could use, and failed at its end."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    with pytest.raises(CheckpointError, match=r"run was deleted or renamed .*resume the run where it is"):
        tiny.start(run, callbacks=[At("step", step, lambda: run.rename(moved))])
    assert not run.exists() and (moved / "settings.toml").is_file()
