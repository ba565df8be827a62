"""What every objective promises, over every file of the room."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.data.batch import collate
from seedbed.data.loader import Loader, MixturePart, micro_batches
from seedbed.data.records import Record, RecordSource
from seedbed.models.network import build, family, initialize
from seedbed.training.train_step import OBJECTIVES

NAMES = OBJECTIVES.names()


@pytest.fixture
def network() -> Any:
    """Two layers, small, the same each time."""
    module = build(replace(family("gpt2").sized(32, 2), vocab_size=50, max_positions=32, dropout=0.0))
    initialize(module, torch.Generator().manual_seed(3))
    return module


def records(count: int) -> list[list[int]]:
    """Rows of 3 to 20 ids, most of them of different lengths."""
    draw = np.random.default_rng(5)
    return [draw.integers(0, 50, length).tolist() for length in draw.integers(3, 21, count)]


def test_the_room_holds_causal() -> None:
    assert "causal" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_file_names_the_objective(name: str) -> None:
    assert OBJECTIVES.get(name)().name == name


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls_on_32_records(name: str, network: Any) -> None:
    objective = OBJECTIVES.get(name)()
    loader = Loader([MixturePart(RecordSource(records(32)), objective)], batch_tokens=400, seed=0)
    losses = []
    for _ in range(30):
        (batch,) = micro_batches(loader.next_step())
        loss = objective.loss_sum(network, batch) / batch.num_targets
        network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.5 * parameter.grad
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("micro_batch_tokens", [1, 30, 77, 0])
def test_sum_and_count_do_not_depend_on_the_split(name: str, micro_batch_tokens: int, network: Any) -> None:
    objective = OBJECTIVES.get(name)()
    examples = [objective.example(Record(np.array(ids), (0, i)), 1) for i, ids in enumerate(records(12))]
    alone = [objective.loss_sum(network, collate([example])).item() for example in examples]
    count = sum(len(example.targets) for example in examples)
    for order in (examples, examples[::-1]):
        batches = micro_batches(order, micro_batch_tokens=micro_batch_tokens)
        together = sum(objective.loss_sum(network, batch).item() for batch in batches)
        assert together == pytest.approx(sum(alone), rel=1e-5)
        assert sum(batch.num_targets for batch in batches) == count


@pytest.mark.parametrize("name", NAMES)
def test_an_example_depends_on_seed_and_record_alone(name: str) -> None:
    objective = OBJECTIVES.get(name)()
    rows = [Record(np.array(ids), (0, i)) for i, ids in enumerate(records(6))]
    before = [objective.example(row, 7) for row in rows]
    torch.manual_seed(1)
    np.random.default_rng(1)
    after = [OBJECTIVES.get(name)().example(row, 7) for row in reversed(rows)][::-1]
    for one, other in zip(before, after, strict=True):
        for left, right in zip(one, other, strict=True):
            assert (left is None and right is None) or np.array_equal(left, right)


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_predicted_by_inputs_that_exist(name: str) -> None:
    objective = OBJECTIVES.get(name)()
    for i, ids in enumerate(records(6)):
        example = objective.example(Record(np.array(ids), (0, i)), 0)
        where = np.arange(len(example.input_ids)) if example.target_index is None else example.target_index
        assert len(where) == len(example.targets) > 0
        assert where.min() >= 0 and where.max() < len(example.input_ids)
