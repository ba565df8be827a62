"""What every objective promises, over every file of the room and every family that it trains."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.objectives import small

from seedbed.base.errors import ConfigError
from seedbed.data.batch import collate
from seedbed.data.loader import Loader, MixturePart, micro_batches
from seedbed.data.objective import OBJECTIVES
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary

NAMES = small.NAMES
CORRUPTING = [n for n in NAMES if any(f.name == "rate" for f in fields(OBJECTIVES.get(n).settings_class))]
PAIRS = [(name, family) for name in NAMES for family in small.fitting(name)]


def made(name: str, family: str) -> Any:
    return small.objective(name, shape=small.network(family).config.shape)


def test_every_objective_has_a_test_file() -> None:
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert NAMES and not set(NAMES) - files


def test_every_objective_trains_some_family() -> None:
    assert {name for name, _ in PAIRS} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_name_the_objective(name: str) -> None:
    assert OBJECTIVES.get(name).settings_class().name == name


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_the_loss_falls_on_32_records(name: str, family: str) -> None:
    objective, network = made(name, family), small.network(family, name)
    loader = Loader(
        [MixturePart(small.source(OBJECTIVES.get(name), 32), objective)], batch_tokens=600, seed=0
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        (batch,) = micro_batches(loader.next_step())
        loss = objective.loss_sum(network, batch) / batch.num_targets
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_sum_and_gradients_do_not_depend_on_the_split(name: str, family: str) -> None:
    """Accumulated equals full batch, and packed with others equals alone, to 1e-5."""
    objective, network = made(name, family), small.network(family, name).double()
    rows = small.records(OBJECTIVES.get(name), 12)
    examples = [objective.example(row, 1) for row in rows]
    count = sum(len(example.targets) for example in examples)
    sums, gradients = [], []
    for order, size in ((examples, 0), (examples, 1), (examples[::-1], 60), (examples, 150)):
        network.zero_grad()
        total = 0.0
        batches = micro_batches(order, micro_batch_tokens=size)
        for batch in batches:
            loss = objective.loss_sum(network, batch)
            loss.backward()
            total += loss.item()
        assert sum(batch.num_targets for batch in batches) == count
        assert sum(batch.num_tokens for batch in batches) == sum(example.num_tokens for example in examples)
        sums.append(total)
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    for total, gradient in zip(sums[1:], gradients[1:], strict=True):
        assert total == pytest.approx(sums[0], rel=1e-5)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-5, atol=1e-5 * gradients[0].abs().max())


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_the_ranks_parts_are_the_whole_step(name: str, family: str) -> None:
    objective, network = made(name, family), small.network(family)
    examples = [objective.example(row, 1) for row in small.records(OBJECTIVES.get(name), 12)]
    (whole,) = micro_batches(examples)
    parts = [micro_batches(examples, rank=rank, world_size=3) for rank in range(3)]
    total = sum(objective.loss_sum(network, batch).item() for part in parts for batch in part)
    assert total == pytest.approx(objective.loss_sum(network, whole).item(), rel=1e-5)
    assert sum(batch.num_targets for part in parts for batch in part) == whole.num_targets


@pytest.mark.parametrize("name", NAMES)
def test_an_example_depends_on_seed_and_record_alone(name: str) -> None:
    kind = OBJECTIVES.get(name)
    objective, rows = small.objective(name), small.records(kind, 6)
    before = [objective.example(row, 7) for row in rows]
    torch.manual_seed(1)
    after = [small.objective(name).example(row, 7) for row in reversed(rows)][::-1]
    for one, other in zip(before, after, strict=True):
        for left, right in zip(one, other, strict=True):
            assert (left is None and right is None) or np.array_equal(left, right)


@pytest.mark.parametrize("name", CORRUPTING)
def test_seed_pass_and_number_each_decide_what_is_corrupted(name: str) -> None:
    objective, ids = small.objective(name), np.arange(39)
    drawn = set()
    for seed, key in ((0, (0, 0)), (1, (0, 0)), (0, (1, 0)), (0, (0, 1))):
        example = objective.example(Record(ids, key), seed)
        read = example.input_ids if example.source_ids is None else example.source_ids
        drawn.add(tuple(read.tolist()))
    assert len(drawn) == 4


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_predicted_by_inputs_that_exist(name: str) -> None:
    objective = small.objective(name)
    for row in small.records(OBJECTIVES.get(name), 6):
        example = objective.example(row, 0)
        where = np.arange(len(example.input_ids)) if example.target_index is None else example.target_index
        where = where[:1] if objective.learns_from == "labels" else where  # the row as a whole
        assert len(where) == len(example.targets) > 0
        assert where.min() >= 0 and where.max() < len(example.input_ids)
        for ids in (example.input_ids, example.targets, example.source_ids):
            assert ids is None or ids.dtype == np.int64


@pytest.mark.parametrize("name", [n for n in NAMES if OBJECTIVES.get(n).learns_from == "text"])
@pytest.mark.parametrize("context", [5, 16, 33, 64])
def test_no_row_is_longer_than_the_context(name: str, context: int) -> None:
    objective = small.objective(name)
    size = objective.record_tokens(context) + objective.overlap
    assert size >= 1
    longest = 0
    for number in range(60):
        ids = np.random.default_rng(number).integers(0, small.TEXT, size)
        example = objective.example(Record(ids, (0, number)), 0)
        rows = [example.input_ids, *([] if example.source_ids is None else [example.source_ids])]
        longest = max(longest, *map(len, rows))
    assert context - 2 <= longest <= context


@pytest.mark.parametrize("name", NAMES)
def test_the_end_of_a_document_alone_is_a_record_too(name: str) -> None:
    objective = small.objective(name)
    if objective.learns_from == "text":
        for ids in ([small.EOS], [3], [3, small.EOS]):
            example = objective.example(Record(np.array(ids), (0, 0)), 0)
            collate([example, objective.example(Record(np.arange(9), (0, 1)), 0)])


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_a_batch_moves_as_a_whole(name: str, family: str) -> None:
    objective = made(name, family)
    batch = collate([objective.example(row, 0) for row in small.records(OBJECTIVES.get(name), 4)])
    assert all(tensor.device.type == "meta" for tensor in batch.to("meta").tensors)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("masked", "rate", 0.0),
        ("masked", "rate", 1.0),
        ("span_corruption", "rate", -0.1),
        ("span_corruption", "mean_span_tokens", 0.5),
        ("denoising", "rate", 1.2),
        ("denoising", "mean_span_tokens", 0.0),
        ("denoising", "delete_rate", 1.0),
        ("completion", "label_smoothing", 1.0),
        ("classification", "label_smoothing", -0.1),
        ("tagging", "label_smoothing", 1.0),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"objective.{key}={value} cannot be; allowed: "):
        OBJECTIVES.get(name).settings_class(**{key: value})


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_knows_no_tokenizer(name: str) -> None:
    kind = OBJECTIVES.get(name)
    start = 0 if kind.shapes[-1] == "encoder-decoder" else None
    objective = kind(Vocabulary.stand_in(100, decoder_start_id=start), kind.settings_class())
    assert objective.mixture()
