"""The loop against a plain PyTorch loop, and every way of computing a step against the plain one."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seedbed.base.errors import DataError, TrainingError, UsageError
from seedbed.base.runtime import Runtime
from seedbed.data.batch import Batch, Example, collate
from seedbed.data.loader import Loader, MixturePart
from seedbed.data.records import Record, RecordSource
from seedbed.objectives.causal import Causal
from seedbed.training.evaluation import Validation, evaluate
from seedbed.training.loop import train
from seedbed.training.metrics import read_metrics
from seedbed.training.resume import load_best
from seedbed.training.run_folder import RunFolder


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(folder / "metrics.jsonl") if line["kind"] == kind]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines_of(folder, "step")]


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, left), right in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right), name


@pytest.fixture(scope="module")
def plain(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A run without any option: its folder and its last weights."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, tiny.start(folder, num_steps=12)[0]


def test_it_is_a_plain_loop(tiny: ModuleType, plain: tuple[Path, nn.Module]) -> None:
    folder, module = plain
    reference = tiny.network()
    matrices = [p for p in reference.parameters() if p.ndim >= 2]
    vectors = [p for p in reference.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )
    loader = Loader([MixturePart(RecordSource(tiny.records()), Causal())], batch_tokens=96, seed=0)
    for step, line in enumerate(lines_of(folder, "step")):
        batch = collate(loader.next_step())
        loss = F.cross_entropy(reference.output(reference(batch.input_ids, batch.layout)), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        rate = 3e-3 * (0.5 if step < 1 else 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 1) / 11)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        assert line["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert line["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)
        assert line["learning_rate"] == pytest.approx(rate)
    for left, right in zip(module.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_lines_say_what_happened(tiny: ModuleType, plain: tuple[Path, nn.Module]) -> None:
    folder, module = plain
    steps, evaluations = lines_of(folder, "step"), lines_of(folder, "evaluation")
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert [line["step"] for line in evaluations] == [4, 8, 12]
    loader = Loader([MixturePart(RecordSource(tiny.records()), Causal())], batch_tokens=96, seed=0)
    assert steps[0]["tokens"] == sum(len(example.input_ids) for example in loader.next_step())
    for key in ("tokens", "seconds"):
        values = [line[key] for line in steps]
        assert values == sorted(values) and values[0] > 0
    assert evaluations[-1]["tokens"] == steps[-1]["tokens"]
    assert "peak_fraction" not in steps[0]
    rows = tiny.records(9, seed=1)
    with torch.no_grad():
        nats = sum(
            F.cross_entropy(module.output(module(b.input_ids, b.layout)), b.targets, reduction="sum").item()
            for b in (collate([Causal().example(Record(row, (0, 0)), 0)]) for row in RecordSource(rows).ids)
        )
    assert evaluations[-1]["num_targets"] == sum(len(row) - 1 for row in rows)
    assert evaluations[-1]["loss"] == pytest.approx(nats / evaluations[-1]["num_targets"], rel=1e-5)
    assert evaluations[-1]["bits_per_byte"] == pytest.approx(nats / math.log(2) / 500, rel=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "lstm", "seedling"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns(tiny: ModuleType, name: str, optimizer: str, tmp_path: Path) -> None:
    changes = {"learning_rate": 1e-2, "optimizer": optimizer, "clip_norm": 0.0, "evaluate_every_steps": 150}
    # An LSTM under Muon is at 0.98 of its first loss after 40 steps, at 0.48 after 150 (2026-11-24).
    tiny.start(tmp_path, name=name, num_steps=150, **changes)
    fallen = losses(tmp_path)
    assert sum(fallen[-5:]) / 5 < 0.85 * fallen[0]


@pytest.mark.parametrize("micro_batch_tokens", [1, 40])
def test_accumulated_equals_the_full_batch(
    tiny: ModuleType, plain: tuple[Path, nn.Module], micro_batch_tokens: int, tmp_path: Path
) -> None:
    module, _ = tiny.start(tmp_path, micro_batch_tokens=micro_batch_tokens)
    assert losses(tmp_path) == pytest.approx(losses(plain[0]), rel=1e-5)
    for left, right in zip(module.parameters(), plain[1].parameters(), strict=True):
        # Adam divides by a root of tiny squares: rounding shows in the weights more than in the loss.
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


def test_a_mean_of_means_would_not_be_equal(tiny: ModuleType, plain: tuple[Path, nn.Module]) -> None:
    """Dividing each micro-batch by its own targets is wrong by far more: the test above can fail."""
    loader = Loader([MixturePart(RecordSource(tiny.records()), Causal())], batch_tokens=96, seed=0)
    module, means = tiny.network(), []
    for example in loader.next_step():
        batch = collate([example])
        means.append(Causal().loss_sum(module, batch).item() / batch.num_targets)
    assert abs(sum(means) / len(means) / losses(plain[0])[0] - 1) > 1e-4


def test_checkpointed_activations_change_no_bit(tiny: ModuleType, tmp_path: Path) -> None:
    modules = []
    for name in ("kept", "computed again"):
        module = tiny.network(dropout=0.2)
        module.set_activation_checkpointing(name != "kept")
        modules.append(tiny.start(tmp_path / name, module=module)[0])
    assert_same(*modules)
    assert losses(tmp_path / "kept") == losses(tmp_path / "computed again")


def test_bfloat16_is_autocast_over_float32_weights(
    tiny: ModuleType, plain: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    seen = set()

    class Watch(Causal):
        def loss_sum(self, module: Any, batch: Batch) -> torch.Tensor:
            hook = module.decoder.blocks[0].ffn.inner.register_forward_hook(lambda m, i, o: seen.add(o.dtype))
            loss = super().loss_sum(module, batch)
            hook.remove()
            return loss

    runtime = Runtime(precision="bfloat16")
    loader = Loader([MixturePart(RecordSource(tiny.records()), Causal())], batch_tokens=96, seed=0)
    module = tiny.network()
    with RunFolder(tmp_path) as run:
        train(module, loader, objective=Watch(), settings=tiny.SETTINGS, run=run, runtime=runtime)
        weights = run.checkpoints.at(12).tensors("weights")
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in module.parameters()} == {torch.float32} == {t.dtype for t in weights.values()}
    assert losses(tmp_path) != losses(plain[0])
    assert losses(tmp_path) == pytest.approx(losses(plain[0]), rel=0.02)


def test_dropout_is_the_seeds_and_the_global_generator_comes_back(tiny: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        tiny.start(tmp_path / name, dropout=0.2, seed=seed, num_steps=3)
        torch.rand(7)
    assert losses(tmp_path / "one") == losses(tmp_path / "same")
    assert losses(tmp_path / "one") != losses(tmp_path / "other")
    torch.set_rng_state(before)
    tiny.start(tmp_path / "again", dropout=0.2, num_steps=3)
    assert torch.equal(torch.get_rng_state(), before)


class Cliff(nn.Module):
    """A loss that is finite while the gradient of `edge` is NaN, from the third step on: sqrt(0) x 0."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.edge, self.calls = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4)), 0

    def forward(self, ids: torch.Tensor, layout: object) -> torch.Tensor:
        """ids (N,) -> (N, 4)."""
        self.calls += 1
        x = self.slope.expand(len(ids), 4)
        return x + (self.edge.abs().sqrt() * 0 if self.calls > 2 else self.edge * 0)

    def output(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same, as logits."""
        return hidden * torch.arange(4.0)


def test_gradients_that_are_not_finite_stop_before_the_optimizer(tiny: ModuleType, tmp_path: Path) -> None:
    module = Cliff()
    loader = Loader([MixturePart(RecordSource([[1, 2, 3, 0]] * 4), Causal())], batch_tokens=96, seed=0)
    message = r"^step 3: loss 1\.\d+, gradient norm nan \(gradients not finite: edge\); the weights are those"
    with RunFolder(tmp_path) as run:
        seen: list[torch.Tensor] = []

        class Keep:
            def begin(self, step: int, num_steps: int) -> None:
                pass

            def record(self, line: Mapping[str, Any]) -> None:
                seen.append(module.slope.detach().clone())

            def end(self) -> None:
                seen.append(module.slope.detach().clone())

        settings = type(tiny.SETTINGS)(
            num_steps=9, checkpoint_every_steps=2, batch_tokens=96, context_tokens=24
        )
        arguments = {"objective": Causal(), "settings": settings, "run": run, "runtime": Runtime()}
        with pytest.raises(TrainingError, match=message):
            train(module, loader, callbacks=[Keep()], **arguments)
        assert run.checkpoints.steps() == [2]
        assert torch.equal(run.checkpoints.at(2).tensors("weights")["slope"], module.slope)
    assert torch.equal(seen[-1], seen[-2])  # as after step 2


def test_a_batch_without_a_target_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    class Nothing(Causal):
        def example(self, record: Record, seed: int) -> Example:
            return Example(record.ids, record.ids[:0], record.ids[:0])

    loader = Loader([MixturePart(RecordSource(tiny.records()), Nothing())], batch_tokens=96, seed=0)
    with RunFolder(tmp_path) as run, pytest.raises(DataError, match="no record of step 1 has a target"):
        train(tiny.network(), loader, objective=Nothing(), settings=tiny.SETTINGS, run=run, runtime=Runtime())


def test_the_best_weights_are_kept_and_judged_honestly(tiny: ModuleType, tmp_path: Path) -> None:
    # A learning rate that makes it worse in the end.
    changes = {"learning_rate": 0.3, "schedule": "constant", "warmup_steps": 6, "evaluate_every_steps": 2}
    module, progress = tiny.start(tmp_path, num_steps=16, **changes)
    judged = {line["step"]: line["loss"] for line in lines_of(tmp_path, "evaluation")}
    assert progress.best_loss == min(judged.values()) == judged[progress.best_step]
    assert progress.best_step < 16
    found = load_best(module, RunFolder(tmp_path))
    assert found is not None and (found.step, found.state["loss"]) == (progress.best_step, progress.best_loss)
    held_out = Validation(RecordSource(tiny.records(9, seed=1), shuffle=False), Causal())
    again = evaluate(module, held_out, batch_tokens=96, seed=0, runtime=Runtime())
    assert again is not None and again.loss == pytest.approx(progress.best_loss, rel=1e-6)
    assert again.to_dict()["bits_per_byte"] is None


def test_without_validation_nothing_is_best(tiny: ModuleType, tmp_path: Path) -> None:
    loader = Loader([MixturePart(RecordSource(tiny.records()), Causal())], batch_tokens=96, seed=0)
    with RunFolder(tmp_path) as run:
        progress = train(
            tiny.network(),
            loader,
            objective=Causal(),
            settings=tiny.SETTINGS,
            run=run,
            runtime=Runtime(),
            peak_tokens_per_second=1e6,
        )
        assert load_best(tiny.network(), run) is None
    assert progress.best_loss is None and lines_of(tmp_path, "evaluation") == []
    line = lines_of(tmp_path, "step")[3]
    assert line["peak_fraction"] == pytest.approx(line["tokens_per_second"] / 1e6)


def test_an_unknown_optimizer_is_refused_by_name(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"no optimizer is named 'adam'; did you mean 'adamw'\? allowed: adafactor, adamw, muon",
    ):
        tiny.start(tmp_path, optimizer="adam")


def test_lines_are_json_that_any_reader_takes(plain: tuple[Path, nn.Module]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for text in (plain[0] / "metrics.jsonl").read_text().splitlines():
        json.loads(text, parse_constant=refuse)


def test_no_step_is_above_the_peak(tiny: ModuleType, tmp_path: Path) -> None:
    tiny.start(tmp_path, peak_tokens_per_second=1.0)
    lines = [line for line in read_metrics(tmp_path / "metrics.jsonl") if line["kind"] == "step"]
    shares, speeds = ([line[key] for line in lines] for key in ("peak_fraction", "tokens_per_second"))
    assert shares[0] == max(shares) == 1.0
    assert shares == [speed / max(speeds[: n + 1]) for n, speed in enumerate(speeds)]
