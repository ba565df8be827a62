"""Frozen weights: checkpoints without them, known again by fingerprint, and every refusal with its reason."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.moments import At, interrupt
from torch import nn

from seedbed.base.errors import CheckpointError, StoppedEarly, TrainingError, UsageError
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.resume import checkpointed, fingerprints_of, load_best, weights_of
from seedbed.training.run_folder import RunFolder

FAMILIES = ("gpt2", "lstm")
VOCAB_SIZE = 60_000  # with so many embeddings the last of two layers has less than 1% of the weights


def freeze_but(module: nn.Module, *parts: str) -> nn.Module:
    """Leave those parameters trainable whose name contains one of `parts`."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    return module


def last_layer(module: nn.Module) -> nn.Module:
    """Freeze all but the last of two layers."""
    return freeze_but(module, "blocks.1.", "layers.1.")


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in weights_of(module).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stop(tiny: ModuleType, folder: Path, module: nn.Module, step: int = 7, **options: Any) -> None:
    with pytest.raises(StoppedEarly):
        tiny.start(folder, module=module, callbacks=[At("step", step, interrupt)], **options)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [{}, {"average_checkpoints": 2}, {"optimizer": "muon"}, {"precision": "bfloat16"}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_interrupted_equals_uninterrupted_and_the_frozen_stay(
    tiny: ModuleType, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    def fresh() -> nn.Module:
        return last_layer(tiny.network(name, dropout=0.1))

    before = weights(fresh())
    whole, progress = tiny.start(tmp_path / "whole", module=fresh(), **options)
    stop(tiny, tmp_path / "cut", fresh(), **options)
    cut, again = tiny.start(tmp_path / "cut", module=fresh(), **options)
    assert same(weights(whole), weights(cut))
    assert (again.loss, again.best_loss) == (progress.loss, progress.best_loss)
    changed = {name for name, tensor in weights(whole).items() if not torch.equal(tensor, before[name])}
    assert changed == checkpointed(fresh()).keys()
    best = fresh()
    assert load_best(best, RunFolder(tmp_path / "cut")) is not None
    assert not same(weights(best), before)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_with_99_percent_frozen_is_under_5_percent(
    tiny: ModuleType, name: str, tmp_path: Path
) -> None:
    def fresh() -> nn.Module:
        return last_layer(tiny.network(name, vocab_size=VOCAB_SIZE, dropout=0.1))

    count = sum(parameter.numel() for parameter in fresh().parameters())
    assert sum(p.numel() for p in fresh().parameters() if p.requires_grad) < 0.01 * count
    few = {"num_steps": 2, "evaluate_every_steps": 1, "checkpoint_every_steps": 1}
    tiny.start(tmp_path / "all", module=tiny.network(name, vocab_size=VOCAB_SIZE), **few)
    stop(tiny, tmp_path / "cut", fresh(), step=1, **few)
    cut, _ = tiny.start(tmp_path / "cut", module=fresh(), **few)
    whole, _ = tiny.start(tmp_path / "whole", module=fresh(), **few)
    assert same(weights(cut), weights(whole))
    for checkpoint in ("000001", "000002"):
        frozen, none = (size(tmp_path / run / "checkpoints" / checkpoint) for run in ("whole", "all"))
        assert frozen < 0.05 * none
    frozen, none = (
        size(Checkpoints(tmp_path / run / "checkpoints").best()[0].path) for run in ("whole", "all")
    )
    assert frozen < 0.05 * none


@pytest.mark.parametrize("parts", [("embed",), ("blocks.0.",), ("final_norm",), ("ffn", "bias")])
@pytest.mark.parametrize("checkpoints", [False, True])
def test_any_part_may_train_alone(
    tiny: ModuleType, parts: tuple[str, ...], checkpoints: bool, tmp_path: Path
) -> None:
    """Tied embeddings, checkpointed activations of layers whose inputs need no gradient, and more."""
    module = freeze_but(tiny.network(), *parts)
    module.set_activation_checkpointing(checkpoints)
    _, progress = tiny.start(tmp_path, module=module)
    plain = freeze_but(tiny.network(), *parts)
    assert tiny.start(tmp_path / "plain", module=plain)[1].loss == pytest.approx(progress.loss, rel=1e-5)
    assert progress.best_step == 12  # the loss on held-out records fell with every evaluation


def test_a_checkpoint_from_before_there_were_frozen_weights_resumes(tiny: ModuleType, tmp_path: Path) -> None:
    whole, _ = tiny.start(tmp_path / "whole")
    stop(tiny, tmp_path / "cut", tiny.network())
    checkpoints = Checkpoints(tmp_path / "cut" / "checkpoints")
    newest, best = checkpoints.newest()[0], checkpoints.best()[0]
    assert newest is not None and best is not None
    for checkpoint in (newest, best):
        assert checkpoint.state.pop("frozen") == {}
    kinds = ("weights", "optimizer")
    checkpoints.save(newest.step, {kind: newest.tensors(kind) for kind in kinds}, newest.state)
    checkpoints.save_best(best.step, best.tensors("weights"), best.state)
    cut, _ = tiny.start(tmp_path / "cut")
    assert same(weights(cut), weights(whole))
    assert load_best(tiny.network(), RunFolder(tmp_path / "cut")) is not None


def other_numbers(module: nn.Module) -> None:
    with torch.no_grad():
        module.embed.weight[-1, -1] += 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_numbers, r"embed\.weight \(frozen with other values than in the checkpoint\); freeze what"),
        (
            lambda module: module.embed.requires_grad_(True),
            r"embed\.weight \(frozen in the checkpoint but trainable now\); freeze what",
        ),
        (
            lambda module: module.decoder.blocks[1].ffn.requires_grad_(False),
            r"decoder\.blocks\.1\.ffn\..* and 1 more \(frozen now but trained in the checkpoint\); freeze",
        ),
        (
            lambda module: module.register_parameter(
                "more", nn.Parameter(torch.ones(1), requires_grad=False)
            ),
            r"more \(not in the checkpoint\); freeze what",
        ),
    ],
)
def test_another_base_or_other_frozen_weights_are_refused_by_name(
    tiny: ModuleType, change: Callable[[nn.Module], object], words: str, tmp_path: Path
) -> None:
    stop(tiny, tmp_path, last_layer(tiny.network()))
    module = last_layer(tiny.network())
    change(module)
    for attempt in (
        lambda: tiny.start(tmp_path, module=module),
        lambda: load_best(module, RunFolder(tmp_path)),
    ):
        with pytest.raises(
            CheckpointError, match=f"weights are not those of the checkpoint: {words}"
        ) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    tiny.start(tmp_path, module=last_layer(tiny.network()))


def test_a_training_with_nothing_to_train_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing trains: requires_grad is False for every parameter"):
        tiny.start(tmp_path, module=freeze_but(tiny.network(), "no such part"))
    module = freeze_but(tiny.network(), "no such part")
    module.register_parameter("unused", nn.Parameter(torch.ones(1)))
    with pytest.raises(TrainingError, match=r"depends on none of the parameters that train \(unused\)"):
        tiny.start(tmp_path / "unused", module=module)


def test_fingerprints_tell_numbers_types_and_shapes_apart() -> None:
    def fingerprint(tensor: torch.Tensor) -> str:
        module = nn.Module()
        module.register_parameter("x", nn.Parameter(tensor, requires_grad=False))
        return fingerprints_of(module)["x"]

    ones = torch.ones(6, 4)
    tensors = [ones, ones.view(4, 6), ones.bfloat16(), ones * 2, torch.ones(()), torch.ones(0)]
    assert len({fingerprint(tensor) for tensor in tensors}) == len(tensors)
    random = torch.randn(6, 4)
    assert fingerprint(random.T.contiguous().T) == fingerprint(random)  # whatever the memory's order
    assert fingerprint(random).startswith("torch.float32 (6, 4) ")
    frozen_by_name = fingerprints_of(nn.Linear(2, 2).requires_grad_(False))
    assert frozen_by_name.keys() == {"weight", "bias"} and not fingerprints_of(nn.Linear(2, 2))


def test_a_checkpoint_contains_what_trains_and_saved_buffers() -> None:
    module = nn.BatchNorm1d(3)
    module.register_buffer("table", torch.ones(5), persistent=False)
    module.weight.requires_grad_(False)
    assert checkpointed(module).keys() == {"bias", "running_mean", "running_var", "num_batches_tracked"}
