"""The records of the data say the objective, where it is not given; it is printed and written down."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.text.test_chat_template import pair

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import ConfigError, DataError
from seedbed.models.network import family
from seedbed.runs.start import load_run, run_settings
from seedbed.select import rehearsal
from seedbed.text.training import train_tokenizer

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ALPACA = {"instruction": "i", "input": "", "output": "o"}
RECORDS: dict[str, tuple[Any, str]] = {
    "classification": ({"text": "t", "label": 1}, "text and label"),
    "tagging": ({"tokens": ["a"], "tags": ["O"]}, "tokens and tags"),
    "completion": ({"prompt": "p", "completion": "c"}, "prompt and completion"),
    "conversation": ({"messages": TURNS}, "messages"),
    "causal": ({"text": "t"}, "text"),
}


def write(folder: Path, *records: Any) -> str:
    (folder / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(folder / "a.jsonl")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small LLaMA that chats."""
    made = pair("bytes", "chatml")[2]
    config = replace(family("llama").sized(32, 1), vocab_size=made.vocab_size)
    seedbed.new(config, tokenizer=made).save(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("objective", RECORDS)
def test_the_records_say_the_objective(objective: str, base: Path, tmp_path: Path) -> None:
    record, fields = RECORDS[objective]
    data, lines = write(tmp_path, record), list[str]()
    settings, _ = run_settings(data, overrides=[f"model.base={base}"], notify=lines.append)
    # A pair is a conversation of one turn for a decoder that exists.
    learned = "conversation" if objective == "completion" else objective
    assert settings.objective.name == learned
    assert lines[-1:] == [f"recognised in {data}: {fields} -> {learned}"]
    if objective == "completion":
        assert run_settings(data, family="llama")[0].objective.name == "completion"
    again, _ = load_run(
        {"data": {"train": data}, "objective": {"name": objective}, "model": {"base": str(base)}}
    )
    assert again.data == settings.data and again.data.form is not None


def test_instructions_are_conversations_for_a_model_that_chats(base: Path, tmp_path: Path) -> None:
    data = write(tmp_path, ALPACA)
    chats, _ = run_settings(data, overrides=[f"model.base={base}"])
    assert (chats.objective.name, chats.data.form) == ("conversation", "alpaca")
    assert run_settings(data, family="llama")[0].objective.name == "completion"
    asked, _ = run_settings(data, objective="completion", overrides=[f"model.base={base}"])
    assert (asked.objective.name, asked.data.form) == ("completion", "alpaca")


def test_a_family_that_cannot_train_what_the_records_have_says_so(tmp_path: Path) -> None:
    data = write(tmp_path, RECORDS["classification"][0])
    words = (
        r"a\.jsonl have text and label, so the objective classification trains .* --objective causal, its own"
    )
    with pytest.raises(ConfigError, match=words):
        run_settings(data, family="lstm")
    assert run_settings(data, family="lstm", objective="causal")[0].objective.name == "causal"
    data = write(tmp_path, RECORDS["conversation"][0])
    for encoder in ("bert", "t5"):
        with pytest.raises(
            ConfigError, match="have messages, so the objective conversation trains a decoder"
        ):
            run_settings(data, family=encoder)


def test_conversations_need_a_chat_template(tmp_path: Path) -> None:
    data = write(tmp_path, RECORDS["conversation"][0])
    with pytest.raises(ConfigError, match=r"have messages, so conversations .* this one has none: start"):
        run_settings(data, family="llama")
    pair("bytes", "chatml")[2].save(tmp_path / "tokenizer")
    assert run_settings(data, family="llama", tokenizer=str(tmp_path / "tokenizer"))
    plain = train_tokenizer([], "bytes")
    plain.save(tmp_path / "plain")
    with pytest.raises(ConfigError, match="this one has none"):
        run_settings(data, objective="conversation", tokenizer=str(tmp_path / "plain"))


def test_data_that_cannot_be_read_are_named_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.csv does not exist"):
        pretrain(str(tmp_path / "no.csv"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_table_trains_resumes_and_says_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    rows = [f'"a {word}, text {n}",{n % 12}' for n in range(60) for word in ("good", "bad")]
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_text("\n".join(["text,label", *rows, *rows[:5]]))
    (tmp_path / "d" / "notes.pdf").write_bytes(b"%PDF-1.4")
    small = ["model.d_model=16", "model.num_layers=1", "tokenizer.kind=bytes", "training.precision=float32"]
    small += ["training.batch_tokens=64", "training.context_tokens=32"]
    lines: list[str] = []
    options: dict[str, Any] = {"family": "bert", "overrides": small}
    run = pretrain(str(tmp_path / "d"), out=tmp_path / "run", steps=2, notify=lines.append, **options)
    assert any(
        "120 documents; left out 5 equal to one of them; skipped 1: notes.pdf (a PDF)" in x for x in lines
    )
    assert seedbed.load(run.model).config.head.labels == tuple(str(n) for n in range(12))
    settings = (tmp_path / "run" / "settings.toml").read_text()
    for line in ('form = "labels"', 'input = "text"', 'target = "label"', 'name = "classification"'):
        assert line in settings
    again = pretrain(str(tmp_path / "d"), out=tmp_path / "run", steps=2, **options)
    assert again.metrics == run.metrics
