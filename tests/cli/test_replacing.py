"""`export`, `lm.save` and `tokenizer` replace what the same model or tokenizer wrote; else with --force."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import Said

import seedbed as library
from seedbed.base.errors import BundleError
from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import family

Command = Callable[..., Said]
REFUSED = "contains another model; choose a new folder, or replace it with --force (force=True in Python)"


def model(seed: int) -> LanguageModel:
    config = replace(family("gpt2").sized(16, 1), vocab_size=40, max_positions=16)
    return library.new(config, seed=seed)


def test_a_save_replaces_the_same_weights_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    model(0).save(tmp_path / "out")  # an empty folder
    model(0).save(tmp_path / "out", card="# Again\n")
    assert (tmp_path / "out" / "README.md").read_text() == "# Again\n"
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    with pytest.raises(BundleError) as refused:
        model(1).save(tmp_path / "out")
    assert REFUSED in str(refused.value) and "\n" not in str(refused.value)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    model(1).save(tmp_path / "out", force=True)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_files_that_are_no_whole_model_are_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(BundleError, match="contains another model"):
        model(0).save(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_export_replaces_its_own_in_another_dtype_alone(seedbed: Command, tmp_path: Path) -> None:
    for seed in (0, 1):
        model(seed).save(tmp_path / str(seed))
    out = tmp_path / "out"
    said = seedbed("export", tmp_path / "0", "--out", out)
    assert said.code == 0 and "checked  loaded again, with equal logits" in said.out
    for dtype in ("bfloat16", "float32"):
        assert seedbed("export", tmp_path / "0", "--out", out, "--dtype", dtype).code == 0
    said = seedbed("export", tmp_path / "1", "--out", out)
    assert said.code == 1 and REFUSED in said.err and len(said.errors) == 1
    assert seedbed("export", tmp_path / "1", "--out", out, "--force").code == 0


def test_a_tokenizer_replaces_an_equal_one_alone(seedbed: Command, corpus: Path, tmp_path: Path) -> None:
    def train(vocab_size: int, out: str, *more: str) -> Said:
        return seedbed("tokenizer", corpus, "--vocab-size", vocab_size, "--out", tmp_path / out, *more)

    assert train(300, "made").code == train(300, "made").code == 0
    said = train(310, "made")
    assert said.code == 1 and "contains another tokenizer; choose a new folder, or replace" in said.err
    assert train(310, "made", "--force").code == 0
    model(0).save(tmp_path / "model")
    said = train(300, "model")
    assert said.code == 1 and "contains a model; choose a new folder, or replace its tokenizer" in said.err
