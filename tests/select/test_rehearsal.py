"""The bytes of a rehearsal against independent counts: what weights, moments and saved tensors take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seedbed.base.runtime import Runtime
from seedbed.data.loader import Loader, MixturePart, micro_batches
from seedbed.data.records import RecordSource, Source
from seedbed.models.family import Config
from seedbed.models.network import build, family, initialize, parameter_count
from seedbed.objectives.causal import Causal
from seedbed.select import rehearsal
from seedbed.select.ledger import StorageLedger
from seedbed.select.rehearsal import Drawn, even_source, rehearse
from seedbed.training.settings import TrainingSettings
from seedbed.training.train_step import TrainStep

VOCAB = 200


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a moment only: no test here is about time."""
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)


def config_of(name: str, num_layers: int = 2) -> Config:
    return replace(family(name).sized(32, num_layers), vocab_size=VOCAB)


def training_of(**changes: object) -> TrainingSettings:
    wanted = {"batch_tokens": 128, "context_tokens": 32, "num_steps": 20} | changes
    return TrainingSettings(**wanted)  # type: ignore[arg-type]


def parts_of(config: Config, training: TrainingSettings, source: Source | None = None) -> dict[str, int]:
    source = source or even_source(Causal(), training.context_tokens, VOCAB)
    return rehearse(config, training, mixture=[MixturePart(source, Causal())], runtime=Runtime()).parts


def saved_bytes(config: Config, training: TrainingSettings, source: Source) -> int:
    """What autograd keeps for the backward pass, each storage once, parameters and batch apart."""
    module = build(config)
    initialize(module, torch.Generator().manual_seed(0))
    loader = Loader([MixturePart(source, Causal())], batch_tokens=training.batch_tokens, seed=training.seed)
    (batch,) = micro_batches(loader.next_step())
    given = [*module.parameters(), batch.input_ids, batch.targets, batch.layout.positions]
    known = {tensor.untyped_storage().data_ptr() for tensor in given}
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
    # Two moments a parameter, and a counter for the matrices and one for the vectors.
    assert 8 * parameter_count(config) <= parts["optimizer"] <= 8 * parameter_count(config) + 16


@pytest.mark.parametrize("name", ["gpt2", "llama", "seedling"])
def test_activations_are_what_autograd_keeps(name: str) -> None:
    config, training = config_of(name), training_of(batch_tokens=512)
    source = even_source(Causal(), 32, VOCAB)
    parts = parts_of(config, training, source)
    kept = saved_bytes(config, training, source)
    ours = parts["activations"] + parts["logits"]
    assert ours == pytest.approx(kept, rel=0.1)


def test_gradients_of_several_micro_batches_are_all_there_at_the_peak() -> None:
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
def test_whole_depth_and_tokens_follow_from_two_depths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, training = config_of(name, num_layers=6), training_of(batch_tokens=512)
    whole = parts_of(config, training)
    monkeypatch.setattr(rehearsal, "MOST_FLOPS", 1.0)
    monkeypatch.setattr(rehearsal, "FEWEST_TOKENS", 256)
    followed = parts_of(config, training)
    for part in ("weights", "optimizer"):
        assert followed[part] == pytest.approx(whole[part], rel=0.001)
    assert sum(followed.values()) == pytest.approx(sum(whole.values()), rel=0.05)


def test_batches_are_those_of_the_data() -> None:
    source = RecordSource([list(range(n)) for n in (5, 9, 17, 30)], seed=1)
    drawn = Drawn([MixturePart(source, Causal())], training_of(batch_tokens=40), Runtime())
    counts = [sum(len(batch.input_ids) for batch in step) for step in drawn.steps]
    assert len(set(counts)) > 1 and max(counts) <= 40
    assert drawn.step_tokens == pytest.approx(sum(counts) / len(counts))
    batches = drawn.batches(40)
    assert len(batches[0].input_ids) == max(counts) == drawn.most_tokens
    assert max(len(batch.input_ids) for batch in drawn.batches(30)) <= 30


def test_ledger_counts_storages_from_making_to_end() -> None:
    given = torch.ones(100)
    with StorageLedger("early") as ledger:
        ledger.book([given], "given")
        a = torch.zeros(1000)
        with ledger.booking("late"):
            b = a + 1
            view = b[:10]
        del b
        c = torch.zeros(10)
    assert ledger.num_bytes == 4 * (100 + 1000 + 1000 + 10)
    assert ledger.parts_at_peak() == {"given": 400, "early": 4040, "late": 4000}
    del view, c
    assert ledger.num_bytes == 4 * (100 + 1000)
    assert ledger.peak_bytes == 4 * 2110
