"""The examples of a prompt: their choice, and that none is tested."""

from collections import Counter

import pytest
import torch
from tests.task_models import decoder

from seedbed.base.errors import UsageError
from seedbed.evaluation.records import Record
from seedbed.evaluation.shots import choose_shots, free_of, nearest_shots
from seedbed.evaluation.task import TaskSettings

SETTINGS = TaskSettings(use_case="classify")


def record(text: str, label: str = "a") -> Record:
    return Record(text, label, f"r:{text}", {"text": text, "label": label})


POOL = [record(f"text {n}", "abc"[n % 3 if n < 20 else 0]) for n in range(60)]


def labels(shots: list[Record]) -> list[str]:
    return [shot.reference for shot in shots]


def test_balanced_shots_alternate_and_fewer_are_the_first_of_more() -> None:
    shots = choose_shots(POOL, 9, SETTINGS, seed=3)
    assert Counter(labels(shots)) == {"a": 3, "b": 3, "c": 3}
    assert labels(shots[:3]) == labels(shots[3:6]) and choose_shots(POOL, 4, SETTINGS, seed=3) == shots[:4]
    assert choose_shots(POOL, 9, SETTINGS, seed=4) != shots == choose_shots(POOL, 9, SETTINGS, seed=3)
    firsts = {choose_shots(POOL, 1, SETTINGS, seed=seed)[0].reference for seed in range(20)}
    assert firsts == {"a", "b", "c"}


def test_random_shots_have_the_shares_of_the_pool() -> None:
    draws = [choose_shots(POOL, 9, SETTINGS, choice="random", seed=seed) for seed in range(40)]
    assert len({tuple(shot.text for shot in draw) for draw in draws}) == 40
    share = Counter(shot.reference for draw in draws for shot in draw)["a"] / 360
    assert 0.7 < share < 0.9  # 47 of 60 have it
    assert choose_shots(POOL, 3, SETTINGS, choice="first", seed=5) == POOL[:3]


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match="all examples are tested, too; give --examples with other"):
        choose_shots([], 1, SETTINGS)
    with pytest.raises(UsageError, match="num_shots=61 is more than the 60 examples that are not tested"):
        choose_shots(POOL, 61, SETTINGS)


def test_texts_that_are_tested_or_repeated_are_not_free() -> None:
    pool = [record("One  two"), record("three"), record(" ONE\ttwo "), record("Three"), record("four")]
    assert free_of(pool, [record("one two\n")]) == [pool[1], pool[4]]


def test_other_forms_of_the_same_characters_are_the_same_item() -> None:
    pool = [
        record("caf\u00e9 one"),
        record("ﬁne\u200b"),
        record("STRASSE"),
        record("four"),
        record("\uff46our"),
    ]
    tested = [record("cafe\u0301 one"), record("fi\u00adne"), record("straße")]
    assert free_of(pool, tested) == [pool[3]]


def test_the_nearest_example_is_the_last_one() -> None:
    pool = [record("rain on a tree"), record("a garden"), record("the seed grows a leaf"), record("sun")]
    (found,) = nearest_shots(pool, 3, "bm25", decoder())(["a seed and a leaf in the garden"])
    assert [shot.text for shot in found[1:]] == ["a garden", "the seed grows a leaf"]
    (found,) = nearest_shots(pool, 2, "bm25", decoder())(["nothing here"])
    assert found == [pool[1], pool[0]]  # the pool's first ones
    (found,) = nearest_shots(pool, 2, "embeddings", decoder())(["sun"])
    vectors, own = decoder().embed([shot.text for shot in pool[:3]]), decoder().embed("sun")
    cosines = torch.nn.functional.cosine_similarity(vectors, own[None], dim=-1)
    assert found == [pool[i] for i in cosines.argsort(descending=True)[:2]][::-1]


def test_nearest_shots_refuse_a_pool_that_is_too_small() -> None:
    with pytest.raises(UsageError, match="num_shots=3 is more than the 2"):
        nearest_shots(POOL[:2], 3, "bm25", decoder())
