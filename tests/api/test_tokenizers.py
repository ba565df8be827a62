"""A tokenizer alone is trained on the whole corpus; a run's never on held-out documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from seedbed.api import demo
from seedbed.api.tokenizers import train_tokenizer_from
from seedbed.base.errors import SeedbedError
from seedbed.cli.app import run
from seedbed.data.corpus import Corpus
from seedbed.data.split import content_hash
from seedbed.models.network import family as named_family
from seedbed.runs.prepare import new_tokenizer
from seedbed.runs.start import load_run
from seedbed.text.tokenizer import Tokenizer


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two texts: that with the smaller hash, which is held out, has a snowman, the other an umbrella."""
    pairs = ([f"\u2603 number {n}", f"\u2602 number {n}"] for n in range(1000))
    texts = next(pair for pair in pairs if sorted(pair, key=content_hash) == pair)
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_the_verb_takes_a_single_document_that_a_training_would_hold_out(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("\u2603 alone", encoding="utf-8")
    command = [
        "tokenizer",
        str(tmp_path / "one.txt"),
        "--kind",
        "characters",
        "--out",
        str(tmp_path / "made"),
    ]
    assert run(command) == 0
    assert len(Tokenizer.load(tmp_path / "made").encode("\u2603")) == 1


@pytest.mark.parametrize(("whole", "num_tokens"), [(False, 3), (True, 1)])
def test_only_the_whole_corpus_has_the_held_out_character(
    whole: bool, num_tokens: int, corpus: Path, tmp_path: Path
) -> None:
    train_tokenizer_from(str(corpus), out=tmp_path / "made", kind="characters", whole=whole)
    tokenizer = Tokenizer.load(tmp_path / "made")
    assert len(tokenizer.encode("\u2602")) == 1  # of the document that is trained on
    assert len(tokenizer.encode("\u2603")) == num_tokens  # its three bytes, where it was never seen


def test_the_demo_trains_on_the_training_documents_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[dict[str, object]] = []

    def note(data: str, **options: object) -> None:
        calls.append(options)
        raise InterruptedError

    monkeypatch.setattr(demo, "train_tokenizer_from", note)
    with pytest.raises(InterruptedError):
        demo.demo(out=tmp_path / "demo")
    assert not calls[0].get("whole", False)


@pytest.mark.parametrize(
    ("options", "kind", "first", "last"),
    [
        ({}, "bpe", "!", "<|endoftext|>"),
        ({"kind": "wordpiece"}, "wordpiece", "[PAD]", None),
        ({"kind": "unigram"}, "unigram", "<pad>", "<extra_id_0>"),
        ({"family": "bert"}, "wordpiece", "[PAD]", None),
        ({"family": "roberta"}, "bpe", "<s>", None),
        ({"family": "t5", "kind": "bpe"}, "bpe", "<pad>", "<extra_id_0>"),
        ({"family": "llama", "kind": "words"}, "words", "!", "<|endoftext|>"),
    ],
)
def test_a_family_has_its_special_tokens_and_its_kind(
    options: dict[str, Any], kind: str, first: str, last: str | None, corpus: Path, tmp_path: Path
) -> None:
    said = train_tokenizer_from(str(corpus), out=tmp_path / "made", vocab_size=400, **options)
    names = {i: name for name, i in Tokenizer.load(tmp_path / "made").vocabulary.items()}
    assert said["kind"] == kind == Tokenizer.load(tmp_path / "made").kind
    assert ("!" if kind == "words" else names[0]) == first
    assert last in (None, names[len(names) - 1])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"kind": "wordpieces"}, "wordpiece"),
        ({"family": "burt"}, "bert"),
        ({"family": "gpt2", "kind": "unigram"}, "unknown"),
        ({"family": "t5", "vocab_size": 103}, "choose at least 107"),
    ],
)
def test_an_impossible_tokenizer_is_one_line(
    options: dict[str, Any], word: str, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(SeedbedError) as caught:
        train_tokenizer_from(str(corpus), out=tmp_path / "made", **options)
    assert word in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("family", "kind", "made"), [("bert", None, "wordpiece"), ("t5", "bpe", "bpe"), ("gpt2", None, "bpe")]
)
def test_a_run_trains_the_tokenizer_of_its_family(
    family: str, kind: str | None, made: str, corpus: Path
) -> None:
    tokenizing = {"vocab_size": 400} | ({} if kind is None else {"kind": kind})
    settings, start = load_run(
        {"model": {"family": family}, "tokenizer": tokenizing, "data": {"train": str(corpus)}}
    )
    tokenizer = new_tokenizer(settings, start, Corpus(settings.data))
    assert tokenizer.kind == made
    assert len(tokenizer.special_ids) == named_family(family).special.num_tokens
