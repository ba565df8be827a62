"""A tokenizer for an objective: where a token is missing, the error has a command that trains one with it."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from seedbed.text.tokenizer import Tokenizer

SIZES = ("--set", "model.d_model=16", "--set", "model.num_layers=1", "--set", "training.batch_tokens=64")
SHORT = ("--set", "training.context_tokens=32", "--set", "training.precision=float32", "--steps", 1)


@pytest.mark.parametrize(
    ("family", "objective", "missing"),
    [
        ("bart", "span_corruption", "needs sentinels <extra_id_0>"),
        ("t5", "denoising", "needs a mask token"),
        ("transformer", "denoising", "needs a mask token"),
        ("gpt2", "completion", "needs an end token"),
    ],
)
def test_a_refusal_has_a_command_that_works(
    family: str, objective: str, missing: str, seedbed: Callable, corpus: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(f'{{"input": "a {n}", "target": "b {n}"}}\n' for n in range(60)))
    data = pairs if objective == "completion" else corpus
    poor = tmp_path / "poor"
    assert seedbed("tokenizer", corpus, "--kind", "bytes", "--vocab-size", 257, "--out", poor).code == 0
    if objective == "completion":  # a tokenizer without an end token
        content = (poor / "tokenizer.json").read_text()
        (poor / "tokenizer.json").write_text(content.replace("<|endoftext|>", "<|nothing|>"))
        (poor / "tokenizer_config.json").write_text("{}")
    how = ("pretrain", data, "--family", family, "--objective", objective, *SIZES, *SHORT)
    refused = seedbed(*how, "--tokenizer", poor, "--out", tmp_path / "run")
    assert refused.code == 2 and [line for line in refused.errors if missing in line] == refused.errors
    match = re.search(r"\(seedbed (tokenizer .*) --out FOLDER\)", refused.err)
    assert match is not None
    advised = [data if word == "DATA" else word for word in shlex.split(match[1])]
    made = seedbed(*advised, "--out", tmp_path / "rich")
    assert made.code == 0, made.err
    trained = seedbed(*how, "--tokenizer", tmp_path / "rich", "--out", tmp_path / "run")
    assert trained.code == 0, trained.err


def test_a_wrong_pair_of_family_and_objective_writes_no_tokenizer(
    seedbed: Callable, corpus: Path, tmp_path: Path
) -> None:
    how = ("tokenizer", corpus, "--family", "bert", "--objective", "completion", "--out", tmp_path / "made")
    said = seedbed(*how)
    assert said.code == 2 and "completion trains a decoder or an encoder-decoder, but bert" in said.err
    assert not (tmp_path / "made").exists()


def test_an_objective_without_a_family_adds_to_the_kind(
    seedbed: Callable, corpus: Path, tmp_path: Path
) -> None:
    how = ("tokenizer", corpus, "--kind", "words", "--vocab-size", 400, "--out", tmp_path)
    assert seedbed(*how).code == 0 and not Tokenizer.load(tmp_path).sentinel_ids
    assert seedbed(*how, "--objective", "span_corruption", "--force").code == 0
    made = Tokenizer.load(tmp_path)
    assert len(made.sentinel_ids) == 100 and made.mask_id is None and made.eos_id is not None
