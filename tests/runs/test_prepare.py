"""What a run reads is what its settings, its tokenizer and its data are now, until it has a checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest

import seedbed
from seedbed.api.pretrain import pretrain, show
from seedbed.api.tokenizers import train_tokenizer_from
from seedbed.base.errors import ConfigError, DataError, SeedbedWarning
from seedbed.data.corpus import Corpus
from seedbed.select import rehearsal
from seedbed.text.tokenizer import Tokenizer

SETTINGS = [
    *("model.d_model=16", "model.num_layers=1", "tokenizer.vocab_size=300", "training.batch_tokens=64"),
    *("training.context_tokens=16", "training.precision=float32"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)


def write(path: Path, word: str) -> Path:
    path.write_text("\n".join(json.dumps({"text": f"{word} {i} of a few words"}) for i in range(80)))
    return path


def begin(data: Path, out: Path, **options: Any) -> Path:
    return pretrain(str(data), out=out, family="gpt2", steps=3, overrides=SETTINGS, **options).model


def test_a_tokenizer_made_again_in_its_folder_is_the_run_s(tmp_path: Path) -> None:
    data, folder = write(tmp_path / "data.jsonl", "document"), tmp_path / "tokenizer"
    for size in (300, 280):
        train_tokenizer_from(str(data), out=folder, vocab_size=size, force=True)
        options: dict[str, Any] = {"tokenizer": str(folder), "family": "gpt2", "overrides": SETTINGS}
        show(str(data), out=tmp_path / "run", num=1, **options)
    model = begin(data, tmp_path / "run", tokenizer=str(folder))
    assert Tokenizer.load(model).fingerprint == Tokenizer.load(folder).fingerprint
    assert Tokenizer.load(model).vocab_size == 280


def test_data_that_changed_before_the_first_checkpoint_gets_its_own_tokenizer(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", "document")
    show(str(data), out=tmp_path / "run", num=1, family="gpt2", overrides=SETTINGS)
    write(data, "another thing")
    changed, fresh = (begin(data, tmp_path / name) for name in ("run", "fresh"))
    assert Tokenizer.load(changed).fingerprint == Tokenizer.load(fresh).fingerprint
    assert (changed / "model.safetensors").read_bytes() == (fresh / "model.safetensors").read_bytes()


def test_shards_of_files_that_change_while_they_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, documents = write(tmp_path / "data.jsonl", "document"), Corpus.documents

    def meanwhile(corpus: Corpus) -> Any:
        yield from documents(corpus)
        write(data, "another thing")

    tokenizer = tmp_path / "tokenizer"
    train_tokenizer_from(str(data), out=tokenizer, vocab_size=300)
    monkeypatch.setattr(Corpus, "documents", meanwhile)
    with pytest.raises(DataError, match="changed while they were read; run the same command again"):
        begin(data, tmp_path / "run", tokenizer=str(tokenizer))
    assert not [path for path in (tmp_path / ".shards").iterdir() if path.is_dir()]


def test_what_a_killed_plan_left_is_deleted(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", "document")
    (tmp_path / "run" / ".timed-left").mkdir(parents=True)
    begin(data, tmp_path / "run")
    assert not list((tmp_path / "run").glob(".timed-*"))


def test_a_tokenizer_s_settings_beside_a_base_are_told_to_have_no_effect(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", "document")
    base = begin(data, tmp_path / "run")
    own = [f"model.base={base}", *SETTINGS[2:], "tokenizer.kind=bytes"]
    with pytest.warns(SeedbedWarning, match=r"no effect .*: tokenizer.kind, tokenizer.vocab_size"):
        pretrain(str(data), out=tmp_path / "tuned", steps=3, overrides=own)


def test_a_tokenizer_that_is_not_the_base_s_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", "document")
    base, other = begin(data, tmp_path / "run"), str(write(tmp_path / "other.jsonl", "another"))
    options: dict[str, Any] = {"steps": 3, "overrides": [f"model.base={base}", *SETTINGS[3:]]}
    for size in (280, 500):
        train_tokenizer_from(other, out=tmp_path / "t", vocab_size=size, force=True)
        with pytest.raises(
            ConfigError, match="is not the tokenizer that the base was trained with; leave it"
        ):
            pretrain(str(data), out=tmp_path / f"tuned {size}", tokenizer=str(tmp_path / "t"), **options)


def test_a_base_with_a_short_context_is_trained_and_planned_in_it(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", "document")
    base = begin(data, tmp_path / "run")
    own = [f"model.base={base}", "training.batch_tokens=64", "training.precision=float32"]
    run = pretrain(str(data), out=tmp_path / "tuned", steps=3, overrides=own)
    assert "context_tokens = 16\n" in (run.run / "settings.toml").read_text()
    assert seedbed.plan(base, overrides=["training.batch_tokens=64"]).parameters > 0
