"""Records: every token but a document's first is a target exactly once a pass."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.base.errors import ConfigError, DataError
from seedbed.data.records import (
    BLOCK_RECORDS,
    PairSource,
    Record,
    RecordSource,
    TokenSource,
    cut_documents,
)
from seedbed.data.shards import TokenShard, write_shard

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12).filter(lambda lengths: max(lengths) > 1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards")


def shard_of(path: Path, lengths: list[int]) -> TokenShard:
    """Documents whose ids are all different."""
    starts = np.cumsum([0, *lengths])
    return write_shard(
        path / "s", [list(range(a, a + n)) for a, n in zip(starts, lengths, strict=False)], vocab_size=4096
    )


def naive_pieces(length: int, context: int, first: int) -> list[tuple[int, int]]:
    """The same spans, as a loop over one document."""
    if length < 2:
        return []
    if length - 1 <= context:
        return [(0, length)]
    cuts = [0, *range(min(first, length - 1), length - 1, context), length - 1]
    return [(a, b + 1) for a, b in pairwise(cuts)]


@given(LENGTHS, st.integers(1, 20), st.data())
def test_the_cut_equals_a_loop(lengths: list[int], context: int, data: st.DataObject) -> None:
    firsts = [data.draw(st.integers(1, context)) for _ in lengths]
    offsets = np.cumsum([0, *lengths])
    starts, ends = cut_documents(offsets, context, np.array(firsts))
    expected = [
        (int(offset) + a, int(offset) + b)
        for offset, length, first in zip(offsets, lengths, firsts, strict=False)
        for a, b in naive_pieces(length, context, first)
    ]
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected


@given(LENGTHS, st.integers(1, 20), st.integers(0, 3), st.booleans())
def test_every_token_but_the_first_is_a_target_once(
    shards: Path, lengths: list[int], context: int, pass_index: int, shuffle: bool
) -> None:
    shard = shard_of(shards, lengths)
    source = TokenSource(shard, context_tokens=context, seed=1, shuffle=shuffle)
    records = list(source.records(pass_index, 0))
    targets = sorted(int(i) for record in records for i in record.ids[1:])
    firsts = set(shard.offsets[:-1].tolist())
    assert targets == [i for i in range(sum(lengths)) if i not in firsts]
    for record in records:
        assert record.ids.dtype == np.int64
        assert 2 <= len(record.ids) <= context + 1
        assert (np.diff(record.ids) == 1).all()  # within one document
        assert firsts.isdisjoint(record.ids[1:].tolist())
    assert sorted(record.key for record in records) == [(pass_index, n) for n in range(len(records))]


def same(one: list[Record], other: list[Record]) -> bool:
    return len(one) == len(other) and all(
        a.key == b.key and np.array_equal(a.ids, b.ids) for a, b in zip(one, other, strict=True)
    )


@given(LENGTHS, st.integers(1, 20), st.integers(0, 2), st.data())
def test_any_record_can_be_had_again(
    shards: Path, lengths: list[int], context: int, pass_index: int, data: st.DataObject
) -> None:
    shard = shard_of(shards, lengths)
    whole = list(TokenSource(shard, context_tokens=context, seed=5).records(pass_index, 0))
    start = data.draw(st.integers(0, len(whole)))
    fresh = TokenSource(shard, context_tokens=context, seed=5)
    list(fresh.records(7, 0))
    assert same(list(fresh.records(pass_index, start)), whole[start:])


def test_a_long_pass_is_read_in_blocks(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, [4000])
    source = TokenSource(shard, context_tokens=3, seed=0)
    whole = list(source.records(0, 0))
    assert len(whole) > 2 * BLOCK_RECORDS
    assert same(list(source.records(0, BLOCK_RECORDS + 5)), whole[BLOCK_RECORDS + 5 :])


def test_passes_and_seeds_cut_and_order_differently(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, [1000, 1000])

    def order(seed: int, pass_index: int) -> list[int]:
        return [
            int(r.ids[0]) for r in TokenSource(shard, context_tokens=10, seed=seed).records(pass_index, 0)
        ]

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert all(a != b for n, a in enumerate(orders) for b in orders[:n])
    assert all(set(a) != set(b) for n, a in enumerate(orders) for b in orders[:n])
    assert order(0, 0) == orders[0] != sorted(orders[0])


def test_first_cuts_are_even(tmp_path: Path) -> None:
    """Each token of a long document is equally often the last of its context, over the passes."""
    source = TokenSource(shard_of(tmp_path, [30]), context_tokens=4, seed=0)
    firsts = [min(r.ids[-1] for r in source.records(n, 0)) for n in range(400)]
    assert np.bincount(firsts, minlength=5)[1:] == pytest.approx([100] * 4, abs=35)


def test_validation_cuts_from_the_beginning_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    source = TokenSource(shard_of(tmp_path, [6, 1, 2, 3]), context_tokens=2, seed=0, shuffle=False)
    assert [r.ids.tolist() for r in source.records(0, 0)] == [
        [0, 1, 2],
        [2, 3, 4],
        [4, 5],
        [7, 8],
        [9, 10, 11],
    ]
    assert same(
        list(source.records(0, 0)),
        list(TokenSource(source.shard, context_tokens=2, seed=9, shuffle=False).records(0, 0)),
    )


def test_records_in_memory() -> None:
    source = RecordSource([[1, 2], [3, 4, 5], [6, 7]], seed=3)
    passes = [[(r.ids.tolist(), r.key) for r in source.records(n, 0)] for n in range(6)]
    for number, records in enumerate(passes):
        assert sorted(records) == [([1, 2], (number, 0)), ([3, 4, 5], (number, 1)), ([6, 7], (number, 2))]
    assert len({tuple(key[1] for _, key in records) for records in passes}) > 1
    assert [r.key for r in source.records(1, 2)] == [passes[1][2][1]]
    plain = RecordSource([[1, 2], [3, 4]], shuffle=False)
    assert [r.ids.tolist() for r in plain.records(4, 0)] == [[1, 2], [3, 4]]


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no document has two tokens, so there is nothing to predict"):
        TokenSource(write_shard(tmp_path / "s", [[1], [2]], vocab_size=9), context_tokens=4, seed=0)
    with pytest.raises(DataError, match="no document has two tokens"):
        TokenSource(write_shard(tmp_path / "s", [], vocab_size=9), context_tokens=4, seed=0)
    with pytest.raises(ConfigError, match="context_tokens=0 is not allowed: a record needs 1 or more"):
        TokenSource(write_shard(tmp_path / "s", [[1, 2]], vocab_size=9), context_tokens=0, seed=0)
    for records in ([], [[1, 2], [3]]):
        with pytest.raises(DataError, match="a record needs two token ids, and a source one record"):
            RecordSource(records)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 3), st.booleans())
def test_without_overlap_every_token_is_in_one_record(
    shards: Path, lengths: list[int], context: int, pass_index: int, shuffle: bool
) -> None:
    shard = shard_of(shards, lengths)
    source = TokenSource(shard, context_tokens=context, seed=1, shuffle=shuffle, overlap=0)
    records = list(source.records(pass_index, 0))
    assert all(1 <= len(record.ids) <= context for record in records)
    assert sorted(i for record in records for i in record.ids.tolist()) == list(range(sum(lengths)))


def test_cut_alike_in_every_pass_but_dealt_anew(shards: Path) -> None:
    shard = shard_of(shards, [33, 47, 12])
    source = TokenSource(shard, context_tokens=8, seed=1, overlap=0, cut_anew=False)
    first, second = ([r.ids.tolist() for r in source.records(number, 0)] for number in (0, 1))
    assert first != second and sorted(first) == sorted(second)
    numbers = [{r.key[1]: r.ids.tolist() for r in source.records(number, 0)} for number in (0, 1)]
    assert numbers[0] == numbers[1]


def pairs(folder: Path, lengths: list[tuple[int, int]], most: int, **options: object) -> PairSource:
    """Inputs of even ids and answers of odd ones, of the given lengths."""
    sides = [
        write_shard(
            folder / name, [[2 * i + side] * pair[side] for i, pair in enumerate(lengths)], vocab_size=4096
        )
        for side, name in enumerate(("inputs", "answers"))
    ]
    limits = np.where(sides[1].lengths > most, -1, most)
    return PairSource(*sides, max_input_tokens=limits, seed=3, **options)  # type: ignore[arg-type]


def test_pairs_stay_together_and_each_comes_once_a_pass(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = [(int(a), int(b)) for a, b in random.integers(1, 9, (100, 2))]
    source = pairs(tmp_path, lengths, 12)
    for pass_index in (0, 1):
        records = list(source.records(pass_index, 0))
        assert sorted(record.key[1] for record in records) == list(range(100))
        assert all(key[0] == pass_index for key in (record.key for record in records))
        for record in records:
            assert record.answer is not None
            assert set(record.ids.tolist()) == {2 * record.key[1]}
            assert set(record.answer.tolist()) == {2 * record.key[1] + 1}
            assert (len(record.ids), len(record.answer)) == lengths[record.key[1]]
    orders = [[record.key[1] for record in source.records(number, 0)] for number in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    later = [record.key[1] for record in source.records(0, 37)]
    assert later == orders[0][37:]


def test_pairs_of_like_lengths_are_neighbours(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = [(int(a), int(b)) for a, b in random.integers(1, 9, (2000, 2))]
    records = list(pairs(tmp_path, lengths, 12).records(0, 0))
    changes = sum(a.ids.size != b.ids.size for a, b in pairwise(records))
    assert changes < 200  # 1,750 in any order
    plain = [r.key[1] for r in pairs(tmp_path, lengths, 12, shuffle=False).records(0, 0)]
    assert plain == list(range(2000))


def test_long_inputs_lose_their_end_and_long_answers_leave_the_record_out(tmp_path: Path) -> None:
    source = pairs(tmp_path, [(3, 2), (9, 2), (4, 9), (5, 5)], 5)
    assert (source.num_cut, source.num_left_out) == (1, 1)
    found = {r.key[1]: (len(r.ids), len(r.answer)) for r in source.records(0, 0) if r.answer is not None}
    assert found == {0: (3, 2), 1: (5, 2), 3: (5, 5)}
    with pytest.raises(
        DataError, match=r"each of the 2 answers is longer than the context; raise training\.context_"
    ):
        pairs(tmp_path, [(3, 9), (3, 8)], 5)


def test_a_source_of_some_records_and_without_long_ones(tmp_path: Path) -> None:
    lengths = [(3, 2), (9, 2), (4, 9), (5, 5), (1, 1), (7, 1)]
    source = pairs(tmp_path, lengths, 5, cuts=False, numbers=np.array([0, 1, 2, 4]))
    assert (source.num_cut, source.num_left_out) == (0, 2) and source.kept.tolist() == [0, 4]
    for pass_index in (0, 1):
        records = list(source.records(pass_index, 0))
        assert sorted(record.key for record in records) == [(pass_index, 0), (pass_index, 4)]
    every = pairs(tmp_path, lengths, 9, numbers=np.arange(6))
    assert every.order(3).tolist() == pairs(tmp_path, lengths, 9).order(3).tolist()
    with pytest.raises(DataError, match="each of the 2 records is longer than the context; raise"):
        pairs(tmp_path, lengths, 5, cuts=False, numbers=np.array([1, 5]))
