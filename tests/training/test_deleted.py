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
    with pytest.raises(CheckpointError, match=r"run was deleted while the run trained.*again") as caught:
        tiny.start(run, callbacks=[At("step", 5, lambda: shutil.rmtree(run))])
    assert "\n" not in str(caught.value) and not (run / "checkpoints").exists()
