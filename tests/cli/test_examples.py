"""`--show` and `--inspect` print inputs and targets, at any width, in colour or without."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from tests import masked_models

from seedbed.data.shards import TokenShard
from seedbed.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer that has a mask."""
    folder = tmp_path_factory.mktemp("bert")
    masked_models.tokenizer("bert").save(folder)
    return folder


def test_show_trains_nothing_and_the_run_uses_its_tokenizer_and_shards(
    seedbed: Callable, pretrain_command: Callable, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = seedbed(*pretrain_command(run), "--show", 4, "--json")
    assert first.code == 0, first.err
    assert not [name for name in ("plan.json", "metrics.jsonl", "checkpoints") if (run / name).exists()]
    made = {path: path.stat().st_mtime_ns for path in (run / "tokenizer").iterdir()}
    assert seedbed(*pretrain_command(run), "--show", 4, "--json").json == first.json  # the second call
    assert seedbed(*pretrain_command(run)).code == 0
    assert {path: path.stat().st_mtime_ns for path in (run / "tokenizer").iterdir()} == made
    kept = json.loads((run / "examples.json").read_text())["examples"]
    assert kept == first.json["examples"][:3]
    after = seedbed(*pretrain_command(run), "--show", 4, "--json")  # on a finished run
    assert after.code == 0 and after.json == first.json
    other = seedbed(*pretrain_command(run), "--show", 1, "--set", "training.seed=5")
    assert other.code == 1 and "training.seed" in other.err and len(other.errors) == 1
    longer = seedbed(*pretrain_command(run), "--show", 1, "--set", "training.num_steps=50")
    assert longer.code == 0  # which changes no example
    # The reference: an example is a span of a document in the shard.
    (train,) = (tmp_path / ".shards").glob("*/train")
    shard = TokenShard.open(train).tokens.tobytes()
    width = TokenShard.open(train).tokens.dtype
    for example in first.json["examples"]:
        ids = [token["id"] for token in example["writes"]]
        assert np.array(ids, dtype=width).tobytes() in shard and example["num_targets"] == len(ids) - 1


def test_another_vocabulary_before_the_first_checkpoint_makes_another_tokenizer(
    seedbed: Callable, pretrain_command: Callable, tmp_path: Path
) -> None:
    for size in (300, 280):
        how = [*pretrain_command(tmp_path), "--show", 1, "--set", f"tokenizer.vocab_size={size}"]
        assert seedbed(*how).code == 0
        assert Tokenizer.load(tmp_path / "tokenizer").vocab_size == size


@pytest.mark.parametrize("columns", [40, 80])
def test_lines_fit_the_terminal_and_lose_no_letter(
    columns: int,
    seedbed: Callable,
    tiny_run: Path,
    pretrain_command: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = seedbed(*pretrain_command(tiny_run), "--show", 2)
    assert said.code == 0 and "\x1b" not in said.out
    assert max(map(cell_len, said.out.splitlines())) <= columns
    examples = seedbed(*pretrain_command(tiny_run), "--show", 2, "--json").json["examples"]
    for example in examples:
        first, *targets = [token["text"] for token in example["writes"]]
        assert "".join(f"{first}«{''.join(targets)}»".split()) in "".join(said.out.split())


def test_colour_on_a_terminal_and_none_where_it_is_not_wanted(
    seedbed: Callable, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ["tokenizer", "--inspect", bert, "the cat sat ☃ on the mat"]
    plain, masked = seedbed(*how), seedbed(*how, "--objective", "masked", "--seed", 3)
    assert plain.out.splitlines()[0] == "the│ cat│ sat│[UNK] (unknown)│ on│ the│ mat"
    assert "«[MASK]→ " in masked.out and "[CLS]" in masked.out and "must be predicted" in masked.out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = seedbed(*how).out.splitlines()[0]
    assert "\x1b[" in coloured and "│" not in coloured
    assert "\x1b[" in seedbed(*how, "--objective", "masked", "--seed", 3).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "38;" not in seedbed(*how).out and "│" in seedbed(*how).out


def test_an_objective_depends_on_the_seed_and_is_the_requested_one(seedbed: Callable, bert: Path) -> None:
    how = ["tokenizer", "--inspect", bert, "the cat sat on the mat", "--json"]
    found = [seedbed(*how, "--objective", "masked", "--seed", seed).json["examples"] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert "tokens" in seedbed(*how).json  # its family's own objective is not applied unasked
    causal = seedbed(*how, "--objective", "causal").json["examples"][0]
    assert not causal["reads"] and causal["num_targets"] == len(causal["writes"]) - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "masked"], "--inspect MODEL"),
        (["--inspect", "BERT", "--seed", 1], "--objective NAME"),
        (["--inspect", "BERT", "--objective", "completion"], "labelled records"),
        (["--inspect", "BERT", "--objective", "mask"], "masked"),
        (["--inspect", "BERT", "--objective", "span_corruption"], "sentinels"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    arguments: list[str], message: str, seedbed: Callable, bert: Path
) -> None:
    answer = seedbed("tokenizer", "the cat sat", *(bert if part == "BERT" else part for part in arguments))
    assert answer.code in (1, 2) and message in answer.err and answer.err.count("\n") == 1


def test_no_examples_are_refused(seedbed: Callable, pretrain_command: Callable, tmp_path: Path) -> None:
    said = seedbed(*pretrain_command(tmp_path / "run"), "--show", 0)
    assert said.code == 2 and "--show 0" in said.err and not (tmp_path / "run").exists()
