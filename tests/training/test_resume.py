"""A run that was stopped, damaged or refused goes on to the bits of the run that never was."""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from seedbed.base.errors import CheckpointError, StoppedEarly
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.metrics import read_metrics
from seedbed.training.resume import load_best
from seedbed.training.run_folder import RunFolder


class At:
    """Does something once, when a line of a kind and step is recorded."""

    def __init__(self, kind: str, step: int, act: Callable[[], object]) -> None:
        self.kind, self.step, self.act = kind, step, act

    def begin(self, step: int, num_steps: int) -> None:
        """Nothing."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Act at the moment."""
        if (line["kind"], line["step"]) == (self.kind, self.step):
            self.act()

    def end(self) -> None:
        """Nothing."""


def interrupt() -> None:
    """An impatient user: Ctrl-C three times."""
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGINT)


def crash() -> None:
    """An error that nothing in the loop expects."""
    raise RuntimeError("crash")


def history(folder: Path) -> list[tuple[str, int, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["kind"], line["step"], line["loss"]) for line in lines if line["kind"] != "resume"]


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("name", "optimizer"), [("gpt2", "adamw"), ("lstm", "adamw"), ("seedling", "muon")])
@pytest.mark.parametrize("step", [1, 5, 7, 11])
def test_interrupted_equals_uninterrupted_bit_for_bit(
    tiny: ModuleType, name: str, optimizer: str, step: int, tmp_path: Path
) -> None:
    options = {"name": name, "optimizer": optimizer, "dropout": 0.1 * (name != "seedling")}
    whole, progress = tiny.start(tmp_path / "whole", **options)
    with pytest.raises(
        StoppedEarly, match=rf"stopped after step {step + 1} of 12, saved.*same command"
    ) as caught:
        tiny.start(tmp_path / "cut", callbacks=[At("step", step, interrupt)], **options)
    assert caught.value.exit_code == 75
    assert Checkpoints(tmp_path / "cut" / "checkpoints").steps()[-1] == step + 1
    cut, again = tiny.start(tmp_path / "cut", **options)
    assert same_weights(whole, cut)
    assert history(tmp_path / "whole") == history(tmp_path / "cut")
    assert (again.step, again.tokens, again.loss) == (12, progress.tokens, progress.loss)
    assert (again.best_step, again.best_loss) == (progress.best_step, progress.best_loss)
    assert again.seconds > 0


def test_a_crash_repeats_only_what_came_after_the_checkpoint(tiny: ModuleType, tmp_path: Path) -> None:
    whole, _ = tiny.start(tmp_path / "whole")
    for step in (3, 9, 12):  # before the first checkpoint, after it, and at the end
        with pytest.raises(RuntimeError, match="crash"):
            tiny.start(tmp_path / "cut", callbacks=[At("step", step, crash)])
    cut, _ = tiny.start(tmp_path / "cut")
    assert same_weights(whole, cut)
    assert history(tmp_path / "whole") == history(tmp_path / "cut")
    resumed = [
        line["step"] for line in read_metrics(tmp_path / "cut" / "metrics.jsonl") if line["kind"] == "resume"
    ]
    assert resumed == [0, 5, 10]


def test_a_signal_during_an_evaluation_breaks_it_off_and_it_is_done_when_the_run_goes_on(
    tiny: ModuleType, tmp_path: Path
) -> None:
    # Evaluating batch by batch, the signal comes with the line of the step before it.
    tiny.start(tmp_path / "whole", micro_batch_tokens=24)
    with pytest.raises(StoppedEarly, match="stopped after step 8 of 12"):
        tiny.start(tmp_path / "cut", micro_batch_tokens=24, callbacks=[At("step", 8, interrupt)])
    assert history(tmp_path / "cut")[-1][:2] == ("step", 8)  # and no evaluation 8
    _, progress = tiny.start(tmp_path / "cut", micro_batch_tokens=24)
    assert history(tmp_path / "whole") == history(tmp_path / "cut")
    assert progress.best_step == 12


def test_a_finished_run_does_nothing_again(tiny: ModuleType, tmp_path: Path) -> None:
    whole, _ = tiny.start(tmp_path)
    before = (tmp_path / "checkpoints" / "000012" / "manifest.json").stat().st_mtime_ns
    again, progress = tiny.start(tmp_path)
    assert progress.step == 12 and same_weights(whole, again)
    assert (tmp_path / "checkpoints" / "000012" / "manifest.json").stat().st_mtime_ns == before


def test_a_damaged_checkpoint_is_named_and_the_run_still_ends_in_the_same_bits(
    tiny: ModuleType, tmp_path: Path
) -> None:
    whole, _ = tiny.start(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        tiny.start(tmp_path / "cut", callbacks=[At("step", 11, crash)])
    with (tmp_path / "cut" / "checkpoints" / "000010" / "optimizer.safetensors").open("r+b") as file:
        file.seek(300)
        file.write(b"damage")
    cut, _ = tiny.start(tmp_path / "cut")
    assert same_weights(whole, cut)
    assert history(tmp_path / "whole") == history(tmp_path / "cut")
    (line,) = [line for line in read_metrics(tmp_path / "cut" / "metrics.jsonl") if line["kind"] == "resume"]
    assert line["step"] == 5
    assert line["problems"] == ["000010 is damaged: optimizer.safetensors is not what its SHA-256 says"]


def test_damaged_best_weights_are_named_and_judged_anew(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        tiny.start(tmp_path, callbacks=[At("step", 11, crash)])
    (tmp_path / "checkpoints" / "best-000008" / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best weights .* are lost: best-000008 is damaged: weights"):
        load_best(tiny.network(), RunFolder(tmp_path))
    _, progress = tiny.start(tmp_path)
    assert progress.best_step == 12
    (line,) = [line for line in read_metrics(tmp_path / "metrics.jsonl") if line["kind"] == "resume"]
    assert line["problems"] == ["best-000008 is damaged: weights.safetensors is missing"]


def test_other_settings_data_or_model_are_refused_by_name(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(StoppedEarly):
        tiny.start(tmp_path, fingerprints={"content": "abc"}, callbacks=[At("step", 6, interrupt)])
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    with pytest.raises(CheckpointError, match=r"learning_rate was 0\.003, now 0\.5"):
        tiny.start(tmp_path, fingerprints={"content": "abc"}, learning_rate=0.5)
    with pytest.raises(CheckpointError, match=r"other settings or data: data\.content was 'abc', now 'xyz'"):
        tiny.start(tmp_path, fingerprints={"content": "xyz"})
    with pytest.raises(
        CheckpointError, match=r"checkpoint's weights do not fit: .* is \(32,\) there and \(64,\) here"
    ):
        tiny.start(tmp_path, fingerprints={"content": "abc"}, d_model=64)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before
    tiny.start(tmp_path, fingerprints={"content": "abc"})


def test_weights_that_are_not_finite_never_replace_a_checkpoint(tiny: ModuleType, tmp_path: Path) -> None:
    module = tiny.network()

    def spoil() -> None:
        with torch.no_grad():
            module.embed.weight[60, 0] = float("nan")  # an id that the batch may not hold

    with pytest.raises(Exception, match="not finite"):
        tiny.start(tmp_path, module=module, callbacks=[At("step", 9, spoil)])
    assert Checkpoints(tmp_path / "checkpoints").steps() == [5]
    assert all(bool(p.isfinite().all()) for p in tiny.start(tmp_path)[0].parameters())


def test_two_trainings_in_one_folder_are_refused(tiny: ModuleType, tmp_path: Path) -> None:
    with RunFolder(tmp_path), pytest.raises(CheckpointError, match="in use by process"):
        tiny.start(tmp_path)
