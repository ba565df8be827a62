"""`seedbed doctor PATH`: what a folder contains, what is missing, and what to do; weights are not read."""

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import seedbed as library
from seedbed.hub.weight_files import Weights
from seedbed.models.network import family
from seedbed.nn.config import LABELLED, HeadConfig
from seedbed.text.tokenizer import Tokenizer

TINY_GGUF = Path(__file__).parents[1] / "hub" / "tiny_gguf.py"


@pytest.fixture
def bundle(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run / "model", tmp_path / "bundle"))


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A folder with one GGUF file."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", TINY_GGUF)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "files").mkdir()
    module.write(tmp_path / "files" / "a.gguf", module.make_llama(40))
    return tmp_path / "files"


def test_a_bundle_is_described_without_its_weights(
    seedbed: Callable, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Weights, "read", None)
    said = seedbed("doctor", bundle, "--json")
    assert said.code == 0, said.err
    found = said.json
    assert found["kind"] == "bundle" and not found["lacks"] and not found["problems"]
    holds, model = found["holds"], found["model"]
    assert re.fullmatch(r"gpt2\b.*\bdecoder\b.*\b1 layers?\b\D*\b16", holds["model"])
    assert "language" in holds["head"] and "masked" not in holds["head"]
    assert holds["context"] == "16 tokens" and holds["vocabulary"] == "300 tokens"
    assert re.fullmatch(r"bpe\b.*\b300 tokens", holds["tokenizer"]) and "none" in holds["chat template"]
    assert "eos_token_id" in holds["generation"]
    tensors = load_file(bundle / "model.safetensors")
    assert model["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    assert model["dtypes"] == {"float32": model["parameters"]} and model["files"] == ["model.safetensors"]
    assert model["bytes"] == (bundle / "model.safetensors").stat().st_size
    assert found["next"] == f'seedbed generate {bundle} "..."'


def test_what_a_chat_model_and_an_encoder_need(seedbed: Callable, bundle: Path, tmp_path: Path) -> None:
    (bundle / "chat_template.jinja").write_text("{{ messages[0].content }}")
    found = seedbed("doctor", bundle, "--json").json
    assert "none" not in found["holds"]["chat template"] and found["next"] == f"seedbed chat {bundle}"
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    found = seedbed("doctor", tmp_path / "bert", "--json").json
    assert "embeddings" in found["holds"]["head"] and "chat template" not in found["holds"]
    assert set(found["lacks"]) == {"tokenizer.json", "README.md"} and "token ids" in found["next"]


@pytest.mark.parametrize(
    ("kept", "lacks", "next"),
    [
        ({"config.json"}, {"model.safetensors", "tokenizer.json"}, None),
        ({"model.safetensors"}, {"config.json", "tokenizer.json"}, None),
        ({"config.json", "model.safetensors"}, {"tokenizer.json"}, "in Python, with token ids"),
        ({"tokenizer.json", "tokenizer_config.json"}, {"config.json"}, "seedbed pretrain DATA --tokenizer"),
    ],
)
def test_parts_of_a_bundle(
    seedbed: Callable, bundle: Path, kept: set[str], lacks: set[str], next: str | None
) -> None:
    for file in bundle.iterdir():
        if file.name not in kept:
            file.unlink()
    said = seedbed("doctor", bundle, "--json")
    assert said.code == 0, said.err
    assert set(said.json["lacks"]) - {"generation_config.json", "README.md"} == lacks
    assert said.json["next"] is None if next is None else next in said.json["next"]
    assert "Missing" in seedbed("doctor", bundle).out


def test_a_config_that_disagrees_with_the_weights_is_reported(seedbed: Callable, bundle: Path) -> None:
    values = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps(values | {"n_layer": 2}))
    said = seedbed("doctor", bundle, "--json")
    assert said.code == 1 and said.json["next"] is None
    assert re.search(r"\b12 tensors .*missing.*\btransformer\.h\.1\.", said.json["problems"][0])


def test_missing_shards_are_named(seedbed: Callable, bundle: Path) -> None:
    tensors = load_file(bundle / "model.safetensors")
    places = {name: f"model-{n % 3}.safetensors" for n, name in enumerate(tensors)}
    (bundle / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (bundle / "model.safetensors").unlink()
    for shard in ("model-0.safetensors", "model-1.safetensors", "model-2.safetensors"):
        save_file({name: tensors[name] for name in tensors if places[name] == shard}, bundle / shard)
    found = seedbed("doctor", bundle, "--json").json
    assert not found["lacks"] and "in 3 files" in found["holds"]["weights"].replace("\u00a0", " ")
    (bundle / "model-1.safetensors").unlink()
    (bundle / "model-2.safetensors").unlink()
    found = seedbed("doctor", bundle, "--json").json
    assert list(found["lacks"]) == ["model-1.safetensors", "model-2.safetensors"] and found["next"] is None
    (bundle / "model.safetensors.index.json").unlink()
    assert list(seedbed("doctor", bundle, "--json").json["lacks"]) == ["model.safetensors.index.json"]


def test_pickles_and_foreign_weights(seedbed: Callable, bundle: Path) -> None:
    torch.save(load_file(bundle / "model.safetensors"), bundle / "pytorch_model.bin")
    (bundle / "model.safetensors").unlink()
    found = seedbed("doctor", bundle, "--json").json
    assert (
        "a pickle" in found["holds"]["weights"]
        and "can contain a program" in found["lacks"]["model.safetensors"]
    )
    assert found["next"].endswith(f"seedbed export {bundle} --allow-pickle --out FOLDER")
    (bundle / "pytorch_model.bin").rename(bundle / "tf_model.h5")
    found = seedbed("doctor", bundle, "--json").json
    assert found["lacks"]["model.safetensors"].endswith("tf_model.h5 has a format that is not supported")


def test_gguf_files(seedbed: Callable, gguf: Path) -> None:
    for path in (gguf, gguf / "a.gguf"):
        found = seedbed("doctor", path, "--json").json
        assert re.fullmatch(r"llama\b.*\bdecoder\b.*\b2 layers\b\D*\b64", found["holds"]["model"])
        assert "GGUF" in found["kind"]
        assert found["model"]["dtypes"].keys() == {"F32"} and "tokenizer" in found["lacks"]
    (gguf / "b.gguf").write_bytes((gguf / "a.gguf").read_bytes()[:100])
    found = seedbed("doctor", gguf, "--json").json
    assert found["kind"] == "folder of GGUF files" and "name one: " in found["next"]
    assert found["holds"]["a.gguf"].startswith("llama") and "truncated or damaged" in found["holds"]["b.gguf"]
    assert seedbed("doctor", gguf / "b.gguf").code == 1


def test_an_adapter_says_that_it_needs_its_base(seedbed: Callable, tmp_path: Path) -> None:
    values: dict[str, Any] = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    found = seedbed("doctor", tmp_path, "--json").json
    assert found["kind"] == "adapter"
    assert found["holds"] == {"method": "lora", "base": "org/base", "settings": "r 8"}
    assert "download or train it again" in found["lacks"]["adapter_model.safetensors"]
    (tmp_path / "adapter_config.json").write_text("[")
    said = seedbed("doctor", tmp_path)
    assert said.code == 1 and "adapter_config.json is not JSON" in said.err


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mlm", 'seedbed generate {} --fill "... ___ ..."'),
        ("none", 'python -c \'import seedbed; print(seedbed.load("{}").embed("a text"))\''),
        ("classification", 'python -c \'import seedbed; print(seedbed.load("{}").classify("a text"))\''),
        ("tagging", 'python -c \'import seedbed; print(seedbed.load("{}").tag("a text"))\''),
    ],
)
def test_next_is_what_the_head_can_do(
    kind: Any, words: str, seedbed: Callable, bundle: Path, tmp_path: Path
) -> None:
    labelled = family("roberta").labelled
    head = labelled(kind, ("a", "b")) if kind in LABELLED else HeadConfig(kind=kind)
    config = replace(family("roberta").sized(64, 1), vocab_size=300, head=head)
    first, out = tmp_path / "first", tmp_path / "out"
    library.new(config, tokenizer=Tokenizer.load(bundle)).save(first)
    assert seedbed("doctor", first, "--json").json["next"] == words.format(first)
    assert seedbed("export", first, "--out", out, "--json").json["next"] == words.format(out)
    said = seedbed("export", first, "--out", out).out
    assert "".join(words.format(out).split()) in "".join(said.split())  # in lines as wide as the terminal
    assert seedbed("chat", first).code == 2 and "chat template" not in seedbed("chat", first).err


def test_what_is_not_supported_is_not_called_damaged(
    seedbed: Callable, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    values = json.loads((bundle / "config.json").read_text()) | {"scale_attn_by_inverse_layer_idx": True}
    (bundle / "config.json").write_text(json.dumps(values))
    said = seedbed("doctor", bundle)
    assert said.code == 1 and "It does not load" in said.out and "damaged" not in said.out
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert ": an adapter" in seedbed("doctor", tmp_path / "adapter").out


def test_a_folder_of_nothing_is_reported(seedbed: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    for name, words in (
        (tmp_path, "no file that seedbed knows"),
        (tmp_path / "notes.txt", "is a file"),
        ("no", "does not exist"),
    ):
        said = seedbed("doctor", name)
        assert said.code == 2 and words in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_the_terminal(
    seedbed: Callable, bundle: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    (bundle / "README.md").unlink()
    monkeypatch.setenv("COLUMNS", str(columns))
    said = seedbed("doctor", bundle)
    *lines, command = said.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert command.startswith("  next") and f"generate {bundle}" in command  # one line, to copy
