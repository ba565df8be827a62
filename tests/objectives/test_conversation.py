"""Conversations: targets are the assistant's tokens alone, in the chat template of the model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.objectives import small
from tests.text.test_answers import TALK
from tests.text.test_chat_template import pair

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import DataError
from seedbed.data.prepare import prepare_shards
from seedbed.data.records import PairSource, Record
from seedbed.data.settings import DataSettings
from seedbed.data.shards import write_shard
from seedbed.models.network import family
from seedbed.select import rehearsal

SETTINGS = ["training.batch_tokens=256", "training.context_tokens=64", "training.precision=float32"]


def test_the_tokens_of_answers_are_targets_at_the_places_before_them() -> None:
    record = Record(np.array([5, 6, 7, 8, 9, 4]), (0, 0), np.array([0, 0, 1, 1, 0, 1]))
    example = small.objective("conversation").example(record, 0)
    assert example.input_ids.tolist() == [5, 6, 7, 8, 9]
    assert example.targets.tolist() == [7, 8, 4]
    assert example.target_index is not None and example.target_index.tolist() == [1, 2, 4]


def test_a_long_conversation_is_left_out(tmp_path: Path) -> None:
    inputs = write_shard(tmp_path / "ids", [list(range(1, 9)), [1, 2, 3], [5, 6]], vocab_size=small.SIZE)
    flags = [[0, 0, 1, 1, 1, 0, 0, 1], [0, 1, 1], [0, 1]]
    answers = write_shard(tmp_path / "flags", flags, vocab_size=2)
    objective = small.objective("conversation")
    limit = objective.max_input_tokens(answers.lengths, 4)
    how: dict[str, Any] = {"max_input_tokens": limit, "seed": 0, "shuffle": False, "cuts": False}
    source = PairSource(inputs, answers, **how)
    assert (source.num_cut, source.num_left_out) == (0, 1) and limit.min() > 0
    assert [len(record.ids) for record in source.records(0, 0)] == [3, 2]
    how["max_input_tokens"] = np.full(3, 1)
    with pytest.raises(DataError, match="each of the 3 records is longer than the context; raise training"):
        PairSource(inputs, answers, **how)


def write(path: Path, records: list[Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_messages_become_ids_and_flags(tmp_path: Path) -> None:
    template, _, made = pair("bytes", "chatml")
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    said = [{"from": names[m["role"]], "value": m["content"]} for m in TALK]
    for name, talk in (("messages", TALK), ("conversations", said)):
        train, held = (write(tmp_path / f"{name}{n}.jsonl", [{name: talk[n:]}]) for n in (0, 1))
        settings = DataSettings(train=train, validation=held)
        shards = prepare_shards(settings, made, tmp_path / "out", learns_from="conversations")
        ids, flags = template.encode_answers(TALK)
        assert shards.train_answers is not None
        assert shards.train.document(0).tolist() == ids
        assert shards.train_answers.document(0).tolist() == [int(flag) for flag in flags]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (TALK[:2], r"m\.jsonl:2: no message of 'messages' is the assistant's; leave the re"),
        ([], "no message of"),
        ("hello", "the field 'messages' is not a list of messages; give"),
        ([{"role": "user", "content": 3}, TALK[2]], r"m\.jsonl:2: message 0 has the content '3'"),
        ([{"role": "user", "content": "a\ufdd0"}, TALK[2]], r"m\.jsonl:2: the text has U\+FDD0"),
    ],
)
def test_a_bad_conversation_is_refused_with_its_line(messages: Any, words: str, tmp_path: Path) -> None:
    train = write(tmp_path / "m.jsonl", [{"messages": TALK}, {"messages": messages}])
    settings = DataSettings(train=train)
    with pytest.raises(DataError, match=words):
        prepare_shards(settings, pair("bytes", "chatml")[2], tmp_path, learns_from="conversations")


def test_a_chat_model_is_trained_from_messages_and_chats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    _, _, made = pair("bytes", "chatml")
    config = replace(family("gpt2").sized(32, 1), vocab_size=made.vocab_size, max_positions=64)
    seedbed.new(config, tokenizer=made, seed=3).save(tmp_path / "base")
    answer = {"role": "assistant", "content": "small"}
    talks = [{"messages": [{"role": "user", "content": f"hello {n}"}, answer]} for n in range(60)]
    data, lines = write(tmp_path / "m.jsonl", talks), list[str]()
    overrides = [f"model.base={tmp_path / 'base'}", "training.learning_rate=0.01", *SETTINGS]
    run = pretrain(data, out=tmp_path / "run", notify=lines.append, steps=80, overrides=overrides)
    assert f"recognised in {data}: messages -> conversation" in lines
    assert run.next == f"seedbed chat {tmp_path / 'run'}"
    settings = (tmp_path / "run" / "settings.toml").read_text()
    assert 'form = "messages"' in settings and 'name = "conversation"' in settings
    lm = seedbed.load(run.model)
    said = lm.chat([{"role": "user", "content": "hello 7"}], max_new_tokens=8, temperature=0)
    assert said.text == "small"
