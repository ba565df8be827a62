"""A mixture of tasks: weights, the task of each record, refusals, and fingerprints that stay."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedbed.base.errors import ConfigError
from seedbed.data.mixture import group_of, mixture_weights, require_tasks
from seedbed.data.prepare import prepare_shards, source_fingerprint
from seedbed.data.settings import DataSettings
from seedbed.text.training import train_tokenizer

BYTES = train_tokenizer(["a text"], "bytes")


def write(path: Path, name: str, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"{name} {n}", "completion": name} for n in range(number)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_weights_are_those_of_the_papers() -> None:
    counts = [10, 1000, 5000, 0]
    data = DataSettings(train="a", mixture_temperature=1.0)
    assert mixture_weights(counts, data) == [10, 1000, 5000, 0]
    capped = DataSettings(train="a", mixture_limit=3000)
    assert mixture_weights(counts, capped) == [10, 1000, 3000, 0]
    both = DataSettings(train="a", mixture_limit=3000, mixture_temperature=2.0)
    assert mixture_weights(counts, both) == pytest.approx([10**0.5, 1000**0.5, 3000**0.5, 0])
    equal = mixture_weights(counts[:3], DataSettings(train="a", mixture_temperature=1e9))
    assert equal == pytest.approx([1, 1, 1], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"mixture_temperature": 0.5},
            r"data\.mixture_temperature=0\.5 is not allowed: choose 1, for",
        ),
        ({"mixture_temperature": float("inf")}, r"data\.mixture_temperature=inf is not allowed"),
        ({"mixture_limit": 0}, r"data\.mixture_limit=0 is not allowed: choose 1 or more"),
    ],
)
def test_values_that_are_not_allowed(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DataSettings(train="a", **change)


def test_what_has_not_several_tasks_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "all" / "one" / "a.jsonl", "a", 5)
    write(tmp_path / "all" / "one" / "b.jsonl", "b", 5)
    folder, file = str(tmp_path / "all"), str(tmp_path / "all" / "one" / "a.jsonl")
    require_tasks(DataSettings(train=file), "pairs")
    require_tasks(DataSettings(train=str(tmp_path / "all" / "one"), mixture_limit=3), "pairs")
    for train, learns_from, words in (
        (file, "pairs", r"weigh the files or folders of a folder, and .*a\.jsonl is not a folder; leave"),
        (
            "builtin:prose",
            "pairs",
            "builtin:prose is not a folder; leave them out, or give a folder",
        ),
        (folder, "pairs", "weigh several tasks, and .* has one, one; leave them out, or give a folder"),
        (folder, "text", "this objective learns from text, which has none; leave them out, or"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            require_tasks(DataSettings(train=train, mixture_limit=3), learns_from)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_shards_know_the_task_of_each_training_record(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder / "b.jsonl", "first", 20)
    write(folder / "a" / "x.jsonl", "second", 30)
    write(folder / "a" / "deep" / "y.jsonl", "third", 10)
    assert group_of(folder / "a" / "deep" / "y.jsonl", str(folder)) == "a"
    data = DataSettings(train=str(folder), validation_fraction=0.2, mixture_temperature=2.0)
    shards = prepare_shards(data, BYTES, tmp_path / "out", learns_from="pairs")
    assert {*shards.groups} == {"a", "b.jsonl"} and shards.train_groups is not None
    assert len(shards.train_groups) == shards.train.num_documents < 60
    for number, group in enumerate(shards.train_groups.tolist()):
        text = BYTES.decode(shards.train.document(number).tolist())
        assert (shards.groups[group] == "b.jsonl") == text.startswith("first")
    again = prepare_shards(data, BYTES, tmp_path / "out", learns_from="pairs")
    assert again.groups == shards.groups and np.array_equal(again.train_groups, shards.train_groups)


def test_weights_need_no_other_shards_and_plain_ones_keep_their_fingerprint(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder / "a" / "x.jsonl", "first", 5)
    write(folder / "b" / "x.jsonl", "second", 5)
    plain, *mixed = (
        source_fingerprint(DataSettings(train=str(folder), **change))  # type: ignore[arg-type]
        for change in ({}, {"mixture_limit": 3}, {"mixture_limit": 9}, {"mixture_temperature": 2.0})
    )
    assert len({*mixed}) == 1 and plain not in mixed
    assert source_fingerprint(DataSettings(train=str(folder)), "a prompt") != plain
    (folder / "b" / "x.jsonl").rename(folder / "b" / "y.jsonl")  # in the same order
    before = source_fingerprint(DataSettings(train=str(folder), mixture_limit=3))
    (folder / "b").rename(folder / "c")  # another name of its task
    assert source_fingerprint(DataSettings(train=str(folder), mixture_limit=3)) != before
