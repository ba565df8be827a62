"""A bundle with a tokenizer in legacy files opens and is saved with a tokenizer.json."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
import torch

import seedbed
from seedbed.base.errors import BundleError, SeedbedWarning, UsageError
from seedbed.cli.app import run
from seedbed.models.network import family
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

TEXT = "The garden is small."


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A GPT-2 whose tokenizer.json was replaced by legacy files."""
    tokenizer = train_tokenizer([TEXT] * 3, "bpe", vocab_size=280)
    config = replace(
        family("gpt2").presets["124m"],
        num_layers=2,
        d_model=32,
        num_heads=2,
        d_ff=64,
        vocab_size=tokenizer.vocab_size,
    )
    lm = seedbed.new(config, tokenizer=tokenizer)
    lm.save(tmp_path / "legacy")
    folder = tmp_path / "legacy"
    core = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = core["model"]["vocab"] | {t["content"]: t["id"] for t in core["added_tokens"]}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in core["model"]["merges"]))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    return folder


def test_it_opens_and_is_saved_with_a_tokenizer_json(bundle: Path, tmp_path: Path) -> None:
    lm = seedbed.load(bundle)
    ids = lm.tokenizer.encode(TEXT)
    assert lm.tokenizer.decode(ids) == TEXT
    lm.save(tmp_path / "new")
    core = tokenizers.Tokenizer.from_file(str(tmp_path / "new" / "tokenizer.json"))
    assert core.encode(TEXT).ids == ids
    again = seedbed.load(tmp_path / "new")
    assert torch.equal(again.logits(torch.tensor([ids])), lm.logits(torch.tensor([ids])))


def test_an_added_token_beyond_the_embedding_is_warned_of(bundle: Path, tmp_path: Path) -> None:
    """Llama 2 was first published with a pad token of id 32,000 and 32,000 embeddings."""
    size = Tokenizer.load(bundle).vocab_size
    (bundle / "added_tokens.json").write_text(json.dumps({"<more>": size}))
    said = f"the tokenizer has {size + 1} tokens, but the network has {size}: texts with <more> are refused"
    with pytest.warns(SeedbedWarning, match=said):
        lm = seedbed.load(bundle)
    assert lm.generate(TEXT, 2, seed=1).token_ids
    with pytest.raises(UsageError, match=f"token id {size} is not in the vocabulary"):
        lm.generate("a <more>", 2)
    lm.save(tmp_path / "new")
    with pytest.warns(SeedbedWarning, match=said):
        again = seedbed.load(tmp_path / "new")
    assert again.generate(TEXT, 2, seed=1) == lm.generate(TEXT, 2, seed=1)


def test_a_tokenizer_of_another_network_is_one_line(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text())
    size = config["vocab_size"] - 5
    (bundle / "config.json").write_text(json.dumps(config | {"vocab_size": size}))
    with pytest.raises(BundleError, match=f"has {size + 5} tokens, but the network has {size}; use"):
        seedbed.load(bundle)


def test_the_verb_shows_its_tokens(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tokenizer", "--inspect", str(bundle), TEXT, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["tokens"]
    assert "".join(token["token"] for token in shown) == TEXT
