"""The loader: exact resume, shares by tokens, and ranks whose parts are the step."""

import json
from collections import Counter
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.base.errors import CheckpointError, ConfigError
from seedbed.data.batch import Batch, Example
from seedbed.data.loader import Loader, MixturePart, Position, micro_batches, one_pass
from seedbed.data.records import Record, RecordSource, TokenSource
from seedbed.data.shards import TokenShard, write_shard

Row = tuple[tuple[int, ...], tuple[int, ...]]


class NextToken:
    """The causal objective's side of the loader."""

    def example(self, record: Record, seed: int) -> Example:
        return Example(record.ids[:-1], record.ids[1:])


class Marked:
    """Shows what it was given: inputs are ids, the target is (seed, pass, record) in one number."""

    def example(self, record: Record, seed: int) -> Example:
        mark = seed * 10_000 + record.key[0] * 100 + record.key[1]
        return Example(record.ids, np.array([mark]), np.array([0]))


def rows(examples: list[Example]) -> list[Row]:
    return [(tuple(e.input_ids.tolist()), tuple(e.targets.tolist())) for e in examples]


def source_of(lengths: list[int], first: int = 0) -> RecordSource:
    return RecordSource([list(range(first, first + n + 1)) for n in lengths], seed=2)


def shards_of(folder: Path, num_parts: int) -> list[TokenShard]:
    """Small corpora of documents of different lengths."""
    lengths = np.random.default_rng(0).integers(1, 90, (num_parts, 12))
    return [
        write_shard(folder / f"{n}", [range(1000 * n, 1000 * n + int(k)) for k in each], vocab_size=9999)
        for n, each in enumerate(lengths)
    ]


def loader_of(shards: list[TokenShard]) -> Loader:
    """A new loader over new sources, with another objective and weight a part."""
    sources = [TokenSource(shard, context_tokens=16, seed=n) for n, shard in enumerate(shards)]
    parts = [MixturePart(s, Marked() if n % 2 else NextToken(), n + 1.0) for n, s in enumerate(sources)]
    return Loader(parts, batch_tokens=64, seed=7)


@pytest.mark.parametrize("num_parts", [1, 3])
def test_a_resumed_loader_deals_the_same_steps(num_parts: int, tmp_path: Path) -> None:
    shards = shards_of(tmp_path, num_parts)
    loader = loader_of(shards)
    states, steps = [], []
    for _ in range(80):  # more than a pass of every part
        states.append(json.dumps(loader.state_dict()))
        steps.append(rows(loader.next_step()))
    assert all(position.pass_index >= 1 for position in loader.positions)
    for at in range(len(steps)):
        resumed = loader_of(shards)
        for _ in range(at % 3):  # wherever it stood before
            resumed.next_step()
        resumed.load_state_dict(json.loads(states[at]))
        for number in range(at, min(at + 4, len(steps))):
            assert rows(resumed.next_step()) == steps[number]


def test_a_step_is_dealt_in_the_order_of_the_source_and_fills_its_tokens() -> None:
    lengths = [5, 3, 4, 2, 6, 1, 7]
    source = source_of(lengths)
    loader = Loader([MixturePart(source, NextToken())], batch_tokens=10, seed=0)
    dealt: list[Row] = []
    sizes = []
    for _ in range(30):
        step = loader.next_step()
        sizes.append(sum(len(e.input_ids) for e in step))
        dealt += rows(step)
    expected = [
        (tuple(r.ids[:-1].tolist()), tuple(r.ids[1:].tolist()))
        for n in range(30)
        for r in source.records(n, 0)
    ]
    assert dealt == expected[: len(dealt)]
    ends = np.cumsum(sizes)
    flat = np.cumsum([len(row[0]) for row in expected])
    for size, end in zip(sizes, ends, strict=True):
        following = flat[np.searchsorted(flat, end, side="right")] - end
        assert size <= 10 < size + following  # no room for the next record


def test_a_record_longer_than_the_step_is_a_step() -> None:
    loader = Loader([MixturePart(source_of([30, 2, 2]), NextToken())], batch_tokens=5, seed=0)
    sizes = [[len(e.input_ids) for e in loader.next_step()] for _ in range(6)]
    assert [30] in sizes
    assert all(size == [30] or sum(size) <= 5 for size in sizes)


def test_shares_are_by_tokens() -> None:
    parts = [
        MixturePart(source_of([3] * 8), NextToken(), 1.0),
        MixturePart(source_of([11] * 5, 1000), NextToken(), 3.0),
        MixturePart(source_of([7] * 6, 5000), NextToken(), 0.5),
    ]
    loader = Loader(parts, batch_tokens=100, seed=0)
    counts: Counter[int] = Counter()
    for _ in range(60):
        for example in loader.next_step():
            counts[int(example.input_ids[0]) // 1000] += len(example.input_ids)
        total = sum(counts.values())
        for kind, weight, longest in ((0, 1.0, 3), (1, 3.0, 11), (5, 0.5, 7)):
            assert abs(counts[kind] - total * weight / 4.5) <= longest + 11


def test_objectives_get_the_seed_and_the_record_s_key() -> None:
    loader = Loader([MixturePart(source_of([4, 4, 4]), Marked())], batch_tokens=10, seed=3)
    marks = [int(example.targets[0]) for _ in range(6) for example in loader.next_step()]
    assert sorted(marks[:3]) == [30_000, 30_001, 30_002]
    assert sorted(marks[3:6]) == [30_100, 30_101, 30_102]


def test_one_pass_gives_every_record_once() -> None:
    source = RecordSource([list(range(n)) for n in (6, 3, 9, 2, 4)], shuffle=False)
    numbers, steps = zip(*one_pass(source, NextToken(), batch_tokens=8), strict=True)
    assert numbers == ([0, 1], [2], [3, 4])
    assert [[len(e.input_ids) for e in step] for step in steps] == [[5, 2], [8], [1, 3]]
    assert [row for step in steps for row in rows(step)] == [
        (tuple(range(n - 1)), tuple(range(1, n))) for n in (6, 3, 9, 2, 4)
    ]


def batch_rows(batches: list[Batch]) -> list[Row]:
    """The rows of batches of next-token targets."""
    found: list[Row] = []
    for batch in batches:
        inputs = batch.input_ids.split(list(batch.layout.lengths))
        targets = batch.targets.split(list(batch.layout.lengths))
        found += [(tuple(i.tolist()), tuple(t.tolist())) for i, t in zip(inputs, targets, strict=True)]
    return found


@given(st.lists(st.integers(1, 30), min_size=4, max_size=40), st.integers(1, 4), st.integers(0, 50))
def test_the_ranks_parts_are_the_step(lengths: list[int], world_size: int, micro_batch_tokens: int) -> None:
    examples = [Example(np.arange(n, 2 * n), np.arange(n + 1, 2 * n + 1)) for n in lengths]
    parts = [
        micro_batches(examples, micro_batch_tokens=micro_batch_tokens, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert sorted(row for part in parts for row in batch_rows(part)) == sorted(rows(examples))
    loads = [sum(batch.num_tokens for batch in part) for part in parts]
    assert min(loads) > 0
    assert max(loads) - min(loads) <= max(lengths)
    for batch in (batch for part in parts for batch in part):
        alone = len(batch.layout.lengths) == 1
        assert alone or not micro_batch_tokens or batch.num_tokens <= micro_batch_tokens
    assert micro_batch_tokens or all(len(part) == 1 for part in parts)
    for part in parts:
        ordered = [n for batch in part for n in batch.layout.lengths]
        assert ordered == sorted(ordered, reverse=True)


def test_fewer_records_than_ranks_is_refused() -> None:
    examples = [Example(np.arange(3), np.arange(3))]
    with pytest.raises(
        ConfigError, match=r"a step of 1 records is too small for 2 ranks; raise training\.batch"
    ):
        micro_batches(examples, rank=0, world_size=2)


def test_settings_and_states_that_cannot_be() -> None:
    source = source_of([3])
    for weights in ([], [0.0], [1.0, -1.0], [nan], [inf]):
        with pytest.raises(ConfigError, match="a mixture with the weights"):
            Loader([MixturePart(source, NextToken(), w) for w in weights], batch_tokens=8, seed=0)
    with pytest.raises(ConfigError, match="batch_tokens=0 is not allowed: a step needs 1 or more"):
        Loader([MixturePart(source, NextToken())], batch_tokens=0, seed=0)
    two = Loader([MixturePart(source, NextToken())] * 2, batch_tokens=8, seed=0)
    assert two.state_dict() == {"parts": [{"pass_index": 0, "index": 0, "num_tokens": 0}] * 2}
    with pytest.raises(
        CheckpointError, match="the checkpoint's mixture has 2 parts, this one 1; resume with the same"
    ):
        Loader([MixturePart(source, NextToken())], batch_tokens=8, seed=0).load_state_dict(two.state_dict())
    assert two.positions == [Position(), Position()]
