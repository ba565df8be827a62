"""A run that was stopped or damaged resumes to the same bits as an uninterrupted run."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.moments import At, crash, interrupt
from torch import nn

from seedbed.base.errors import CheckpointError, SeedbedWarning, StoppedEarly
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.metrics import read_metrics
from seedbed.training.resume import load_best
from seedbed.training.run_folder import RunFolder


def interrupt_often() -> None:
    """An impatient user: Ctrl-C three times."""
    for _ in range(3):
        interrupt()


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
        tiny.start(tmp_path / "cut", callbacks=[At("step", step, interrupt_often)], **options)
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
        tiny.start(tmp_path / "cut", micro_batch_tokens=24, callbacks=[At("step", 8, interrupt_often)])
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
    with pytest.warns(SeedbedWarning, match=r"cut: 000010 is damaged: optimizer\.safetensors does not match"):
        cut, _ = tiny.start(tmp_path / "cut")
    assert same_weights(whole, cut)
    assert history(tmp_path / "whole") == history(tmp_path / "cut")
    (line,) = [line for line in read_metrics(tmp_path / "cut" / "metrics.jsonl") if line["kind"] == "resume"]
    assert line["step"] == 5
    assert line["problems"] == ["000010 is damaged: optimizer.safetensors does not match its SHA-256"]


def test_lost_best_weights_are_named_and_the_user_decides(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        tiny.start(tmp_path, callbacks=[At("step", 11, crash)])
    (tmp_path / "checkpoints" / "best-000008" / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best weights .* are lost: best-000008 is damaged: weights"):
        load_best(tiny.network(), RunFolder(tmp_path))
    message = (
        r"best weights so far are lost: best-000008 is damaged: weights\.safetensors is missing; .* delete"
    )
    with pytest.raises(CheckpointError, match=message):
        tiny.start(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "best-000008")
    _, progress = tiny.start(tmp_path)
    assert progress.best_step == 12


def test_damaged_best_weights_after_the_checkpoint_are_made_again(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        tiny.start(tmp_path, callbacks=[At("step", 9, crash)])
    (tmp_path / "checkpoints" / "best-000008" / "weights.safetensors").unlink()
    with pytest.warns(SeedbedWarning, match=r"best-000008 is damaged: weights\.safetensors is missing"):
        _, progress = tiny.start(tmp_path)
    assert progress.best_step == 12
    (line,) = [line for line in read_metrics(tmp_path / "metrics.jsonl") if line["kind"] == "resume"]
    assert line["step"] == 5
    assert line["problems"] == ["best-000008 is damaged: weights.safetensors is missing"]


def test_damaged_best_weights_come_again_from_the_checkpoint_of_their_step(
    tiny: ModuleType, tmp_path: Path
) -> None:
    options = {"checkpoint_every_steps": 4, "learning_rate": 0.3}  # of which the loss does not fall for long
    _, whole = tiny.start(tmp_path / "whole", **options)
    with pytest.raises(RuntimeError, match="crash"):
        tiny.start(tmp_path / "cut", callbacks=[At("step", whole.best_step + 1, crash)], **options)
    best = tmp_path / "cut" / "checkpoints" / f"best-{whole.best_step:06d}"
    kept = {file.name: file.read_bytes() for file in best.iterdir()}
    (best / "weights.safetensors").write_bytes(b"damage")
    with pytest.warns(SeedbedWarning, match=r"weights\.safetensors does not match its SHA-256"):
        _, progress = tiny.start(tmp_path / "cut", **options)
    assert (progress.best_step, progress.best_loss) == (whole.best_step, whole.best_loss)
    assert whole.best_step < 12 and {file.name: file.read_bytes() for file in best.iterdir()} == kept


def test_a_damaged_checkpoint_is_not_averaged(tiny: ModuleType, tmp_path: Path) -> None:
    options = {"checkpoint_every_steps": 3, "keep_checkpoints": 4, "average_checkpoints": 3}
    with pytest.raises(RuntimeError, match="crash"):
        tiny.start(tmp_path, callbacks=[At("step", 11, crash)], **options)
    (tmp_path / "checkpoints" / "000006" / "weights.safetensors").write_bytes(b"damage")
    with pytest.warns(SeedbedWarning, match=r"000006 is damaged: weights\.safetensors"):
        tiny.start(tmp_path, **options)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["averaged"] == 2


def test_damaged_metrics_are_named_when_the_run_goes_on(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(StoppedEarly):
        tiny.start(tmp_path, callbacks=[At("step", 6, interrupt_often)])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step": 3', b'"step": 1'))
    problem = "metrics.jsonl: 1 line cut or damaged and left out, the first is line 3"
    with pytest.warns(SeedbedWarning, match=problem):
        tiny.start(tmp_path)
    lines = read_metrics(path)
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, *range(4, 13)]
    assert [line["problems"] for line in lines if line["kind"] == "resume"] == [[problem]]


def test_settings_that_were_damaged_are_restored_and_said_in_the_metrics(
    tiny: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(StoppedEarly):
        tiny.start(tmp_path, callbacks=[At("step", 6, interrupt_often)])
    settings = (tmp_path / "settings.toml").read_text()
    (tmp_path / "settings.toml").write_text(settings.replace("0.003", "0.007"))
    with pytest.warns(SeedbedWarning, match=r"settings\.toml is damaged or was changed .*; it is restored"):
        tiny.start(tmp_path)
    assert (tmp_path / "settings.toml").read_text() == settings
    assert "0.007" in (tmp_path / "settings.toml.damaged").read_text()
    (line,) = [line for line in read_metrics(tmp_path / "metrics.jsonl") if line["kind"] == "resume"]
    assert line["problems"] == ["settings.toml is damaged or was changed after the training began"]


def test_a_run_of_before_the_copies_resumes_and_gets_them(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(StoppedEarly):
        tiny.start(tmp_path, callbacks=[At("step", 6, interrupt_often)])
    shutil.rmtree(tmp_path / ".copies")
    tiny.start(tmp_path)
    assert (tmp_path / ".copies" / "settings.toml").read_bytes() == (tmp_path / "settings.toml").read_bytes()


def test_other_settings_data_or_model_are_refused_by_name(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(StoppedEarly):
        tiny.start(tmp_path, fingerprints={"content": "abc"}, callbacks=[At("step", 6, interrupt_often)])
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    with pytest.raises(CheckpointError, match=r"learning_rate was 0\.003, now 0\.5"):
        tiny.start(tmp_path, fingerprints={"content": "abc"}, learning_rate=0.5)
    with pytest.raises(CheckpointError, match=r"other settings or data: data\.content was 'abc', now 'xyz'"):
        tiny.start(tmp_path, fingerprints={"content": "xyz"})
    with pytest.raises(
        CheckpointError, match=r"checkpoint's weights do not match: .* is \(32,\) there and \(64,\) here"
    ):
        tiny.start(tmp_path, fingerprints={"content": "abc"}, d_model=64)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before
    tiny.start(tmp_path, fingerprints={"content": "abc"})


def test_weights_that_are_not_finite_never_replace_a_checkpoint(tiny: ModuleType, tmp_path: Path) -> None:
    module = tiny.network()

    def spoil() -> None:
        with torch.no_grad():
            module.embed.weight[60, 0] = float("nan")  # an id that the batch may lack

    with pytest.raises(Exception, match="not finite"):
        tiny.start(tmp_path, module=module, callbacks=[At("step", 9, spoil)])
    assert Checkpoints(tmp_path / "checkpoints").steps() == [5]
    assert all(bool(p.isfinite().all()) for p in tiny.start(tmp_path)[0].parameters())


def test_two_trainings_in_one_folder_are_refused(tiny: ModuleType, tmp_path: Path) -> None:
    with RunFolder(tmp_path), pytest.raises(CheckpointError, match="in use by process"):
        tiny.start(tmp_path)
