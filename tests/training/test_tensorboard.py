"""TensorBoard reads back what a run measured, once, and its absence is one line."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from seedbed.base.errors import UsageError
from seedbed.training.metrics import read_metrics
from seedbed.training.tensorboard import TensorBoard


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_number_comes_back(tiny: ModuleType, tmp_path: Path) -> None:
    tiny.start(tmp_path / "run", callbacks=[TensorBoard(tmp_path / "events")])
    got = read(tmp_path / "events")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for kind in ("step", "evaluation"):
        expected = [(line["step"], line["loss"]) for line in lines if line["kind"] == kind]
        assert [step for step, _ in got[f"{kind}/loss"]] == [step for step, _ in expected]
        assert [v for _, v in got[f"{kind}/loss"]] == pytest.approx([v for _, v in expected], rel=1e-6)
    assert {"step/gradient_norm", "step/learning_rate", "evaluation/bits_per_byte"} <= got.keys()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"not installed; .*pip install 'seedbed\[track\]'"):
        TensorBoard(tmp_path)
