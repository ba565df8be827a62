"""The bytes of a rehearsal against independent counts of weights, moments and saved tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.base.errors import UsageError
from seedbed.base.runtime import Runtime
from seedbed.data.batch import Batch
from seedbed.data.loader import Loader, MixturePart, micro_batches
from seedbed.data.records import RecordSource, Source
from seedbed.models.family import Config, Network
from seedbed.models.network import build, family, initialize, parameter_count
from seedbed.objectives.causal import Causal
from seedbed.select import rehearsal
from seedbed.select.layers import outline_of
from seedbed.select.ledger import StorageLedger
from seedbed.select.rehearsal import step_times
from seedbed.select.samples import SampledBatches, even_source
from seedbed.select.step_bytes import step_bytes
from seedbed.training.loop import TrainStep
from seedbed.training.optimizer import OPTIMIZERS
from seedbed.training.settings import TrainingSettings

VOCAB = 200


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a moment only: no test here is about time."""
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)


def config_of(name: str, num_layers: int = 2) -> Config:
    return replace(family(name).sized(32, num_layers), vocab_size=VOCAB)


def training_of(**changes: object) -> TrainingSettings:
    settings = {"batch_tokens": 128, "context_tokens": 32, "num_steps": 20} | changes
    return TrainingSettings(**settings)  # type: ignore[arg-type]


def parts_of(config: Config, training: TrainingSettings, source: Source | None = None) -> dict[str, int]:
    source = source or even_source(Causal(), training.context_tokens, VOCAB)
    return outlined(build(config, "meta"), training, source)


def outlined(network: Network, training: TrainingSettings, source: Source, **how: Any) -> dict[str, int]:
    sampled = SampledBatches([MixturePart(source, Causal())], training, Runtime())
    how |= {"training": training, "sampled": sampled, "precision": "float32", "objective": Causal()}
    return step_bytes(network, **how).parts


def saved_bytes(config: Config, training: TrainingSettings, source: Source) -> int:
    """Bytes that autograd keeps for the backward pass, each storage once, without parameters and batch."""
    module = build(config)
    initialize(module, torch.Generator().manual_seed(0))
    loader = Loader([MixturePart(source, Causal())], batch_tokens=training.batch_tokens, seed=training.seed)
    (batch,) = micro_batches(loader.next_step())
    known_tensors = [*module.parameters(), batch.input_ids, batch.targets, batch.layout.positions]
    known = {tensor.untyped_storage().data_ptr() for tensor in known_tensors}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        TrainStep(module, Causal()).train()(batch)
    return sum(sizes.values())


@pytest.mark.parametrize("name", ["gpt2", "llama", "lstm", "gru"])
def test_weights_and_moments_are_exact(name: str) -> None:
    config = config_of(name)
    parts = parts_of(config, training_of())
    assert parts["weights"] == 4 * parameter_count(config)
    # Two moments per parameter, and a counter for the matrices and one for the vectors.
    assert 8 * parameter_count(config) <= parts["optimizer"] <= 8 * parameter_count(config) + 16


@pytest.mark.parametrize("name", ["gpt2", "llama", "seedling"])
def test_activations_are_what_autograd_keeps(name: str) -> None:
    # So many logits that the peak is at them, and not in the backward pass of a gate.
    config, training = replace(config_of(name), vocab_size=10 * VOCAB), training_of(batch_tokens=512)
    source = even_source(Causal(), 32, VOCAB)
    parts = parts_of(config, training, source)
    kept = saved_bytes(config, training, source)
    ours = parts["activations"] + parts["logits"]
    assert ours == pytest.approx(kept, rel=0.1)


def test_gradients_of_several_micro_batches_all_exist_at_the_peak() -> None:
    config = config_of("gpt2")
    parts = parts_of(config, training_of(batch_tokens=512, micro_batch_tokens=128))
    assert parts["gradients"] == 4 * parameter_count(config)
    once = parts_of(config, training_of(batch_tokens=512))
    assert parts["activations"] < 0.4 * once["activations"]


def test_checkpointed_activations_are_fewer() -> None:
    config = config_of("gpt2", num_layers=4)
    plain, checkpointed = (
        parts_of(config, training_of(batch_tokens=1024, checkpoint_activations=on)) for on in (False, True)
    )
    assert checkpointed["activations"] < 0.5 * plain["activations"]


@pytest.mark.parametrize("name", ["gpt2", "lstm"])
def test_the_bytes_of_a_deep_network_follow_from_two_depths(name: str) -> None:
    config, training = config_of(name, num_layers=11), training_of(batch_tokens=512)
    source, outline = even_source(Causal(), training.context_tokens, VOCAB), build(config, "meta")
    whole, followed = (outlined(outline, training, source, depths=depths) for depths in ((16, 24), (4, 6)))
    assert {part: followed[part] for part in whole} == pytest.approx(whole, rel=0.01)


def test_batches_are_those_of_the_data() -> None:
    source = RecordSource([list(range(n)) for n in (5, 9, 17, 30)], seed=1)
    sampled = SampledBatches([MixturePart(source, Causal())], training_of(batch_tokens=40), Runtime())
    counts = [sum(len(batch.input_ids) for batch in step) for step in sampled.steps]
    assert len(set(counts)) > 1 and max(counts) <= 40
    assert sampled.step_tokens == pytest.approx(sum(counts) / len(counts))
    batches = sampled.batches(40)
    assert len(batches[0].input_ids) == max(counts) == sampled.max_tokens
    assert max(len(batch.input_ids) for batch in sampled.batches(30)) <= 30


def test_ledger_counts_storages_until_they_are_freed() -> None:
    earlier = torch.ones(100)
    with StorageLedger("early") as ledger:
        ledger.record([earlier], "earlier")
        a = torch.zeros(1000)
        with ledger.recording("late"):
            b = a + 1
            view = b[:10]
        del b
        c = torch.zeros(10)
    assert ledger.num_bytes == 4 * (100 + 1000 + 1000 + 10)
    assert ledger.parts_at_peak() == {"earlier": 400, "early": 4040, "late": 4000}
    del view, c
    assert ledger.num_bytes == 4 * (100 + 1000)
    assert ledger.peak_bytes == 4 * 2110


def test_the_timing_is_bounded_where_the_machine_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    network, training = build(config_of("gpt2", 6), "meta"), training_of(batch_tokens=2048, context_tokens=32)
    mixture = [MixturePart(even_source(Causal(), 32, VOCAB), Causal())]
    learned: list[int] = []

    def learn(self: object, batch: Batch) -> None:
        learned.append(batch.num_tokens)
        real(self, batch)

    real: Callable[..., None] = rehearsal.Rehearsal.learn
    monkeypatch.setattr(rehearsal.Rehearsal, "learn", learn)
    step_times(network, training, mixture=mixture, runtime=Runtime())
    assert set(learned) == {2048} and len(learned) > rehearsal.MIN_ROUNDS
    learned.clear()
    step_times(network, training, mixture=mixture, runtime=Runtime(), seconds=1e-6)
    assert set(learned) == {256} and len(learned) == 2  # a warm-up and a round


def freeze_all_but(network: Network, *parts: str) -> Network:
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    return network


def measured_bytes(network: Network, training: TrainingSettings, source: Source) -> dict[str, int]:
    """Bytes of a real training step: at the peak, of the optimizer and of the gradients."""
    initialize(network, torch.Generator().manual_seed(0))
    loader = Loader([MixturePart(source, Causal())], batch_tokens=training.batch_tokens, seed=training.seed)
    (batch,) = micro_batches(loader.next_step())
    compute = TrainStep(network, Causal()).train()
    with StorageLedger("step") as ledger:
        ledger.record([*network.parameters(), *batch.tensors], "earlier")
        with ledger.recording("optimizer"):
            optimizer = OPTIMIZERS.get(training.optimizer)(network, training)
        loss, num_targets = compute(batch)
        (loss / num_targets).backward()
        del loss
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        optimizer.step(1.0)
    moments = sum(tensor.nbytes for tensor in optimizer.state().values())
    return {"peak": ledger.peak_bytes, "optimizer": moments, "gradients": sum(g.nbytes for g in gradients)}


FROZEN = [
    ("blocks.5.", "layers.5."),
    ("blocks.2.", "layers.2."),
    ("embed",),
    ("blocks.0.attn", "layers.0.read"),
]


@pytest.mark.parametrize("parts", FROZEN, ids=lambda parts: parts[0])
@pytest.mark.parametrize("name", ["gpt2", "llama", "lstm"])
def test_frozen_parts_are_planned_as_a_real_step_uses_them(name: str, parts: tuple[str, ...]) -> None:
    training = training_of(batch_tokens=512)
    config = config_of(name, num_layers=6)
    source = even_source(Causal(), training.context_tokens, VOCAB)
    measured = measured_bytes(freeze_all_but(build(config), *parts), training, source)
    outline = freeze_all_but(build(config, "meta"), *parts)
    planned = outlined(outline, training, source)
    assert planned["weights"] == 4 * parameter_count(config)
    assert planned["optimizer"] == pytest.approx(measured["optimizer"], abs=16)
    assert planned.get("gradients", 0) <= measured["gradients"]
    assert sum(planned.values()) == pytest.approx(measured["peak"], rel=0.05)


def test_a_real_network_is_rehearsed_like_one_on_the_meta_device_and_does_not_change() -> None:
    config = config_of("llama")
    network = freeze_all_but(build(config), "blocks.1.").eval()
    initialize(network, torch.Generator().manual_seed(0))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    blocks = network.decoder.blocks
    source, training = even_source(Causal(), 32, VOCAB), training_of()
    outline = freeze_all_but(build(config, "meta"), "blocks.1.")
    assert outlined(outline_of(network), training, source) == outlined(outline, training, source)
    step_times(network, training, mixture=[MixturePart(source, Causal())], runtime=Runtime())
    after = network.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[n], before[n]) for n in before)
    assert not network.training and network.decoder.blocks is blocks
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == [p.requires_grad for p in outline.parameters()]


def test_a_network_with_nothing_trainable_is_refused() -> None:
    network = freeze_all_but(build(config_of("gpt2"), "meta"), "no such part")
    mixture = [MixturePart(even_source(Causal(), 32, VOCAB), Causal())]
    with pytest.raises(UsageError, match="nothing trains"):
        step_times(network, training_of(), mixture=mixture, runtime=Runtime())
