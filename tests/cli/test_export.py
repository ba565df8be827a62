"""`seedbed export`: transformers loads the result with no missing and no unexpected key."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import seedbed as library
from seedbed.hub.bundle import open_bundle

TINY_GGUF = Path(__file__).parents[1] / "hub" / "tiny_gguf.py"


def gguf(path: Path) -> Any:
    """Write a tiny LLaMA to a GGUF file and return its network."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", TINY_GGUF)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.make_llama(40)
    module.write(path, network)
    return network


def check_loads(folder: Path) -> torch.dtype:
    """Check that transformers loads every key and computes our logits; return the type of its weights."""
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    ids, dtype = torch.arange(12)[None] % 40, theirs.dtype
    with torch.no_grad():
        difference = theirs.eval().float()(ids).logits - library.load(folder).logits(ids)
    assert difference.abs().max() < 1e-3
    return dtype


@pytest.mark.parametrize(("dtype", "expected"), [(None, "float32"), ("bfloat16", "bfloat16")])
def test_a_gguf_file_is_exported(seedbed: Callable, tmp_path: Path, dtype: str | None, expected: str) -> None:
    network = gguf(tmp_path / "tiny.gguf")
    how = ["--dtype", dtype] if dtype else []
    said = seedbed("export", tmp_path / "tiny.gguf", "--out", tmp_path / "out", "--json", *how)
    assert said.code == 0, said.err
    made = said.json
    assert made["dtype"] == expected and made["family"] == "llama" and made["format"] == "bundle"
    assert made["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert made["bytes"] == sum(made["files"].values())
    assert set(made["files"]) >= {"config.json", "model.safetensors"}
    assert str(check_loads(tmp_path / "out")) == f"torch.{expected}"


def test_shards_and_pickles_keep_their_type(seedbed: Callable, tiny_run: Path, tmp_path: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tiny_run / "model").to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    assert (
        seedbed("export", tmp_path / "shards", "--out", tmp_path / "one", "--json").json["dtype"]
        == "bfloat16"
    )
    shutil.copytree(tmp_path / "one", tmp_path / "pickled")
    torch.save(load_file(tmp_path / "one" / "model.safetensors"), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    refused = seedbed("export", tmp_path / "pickled", "--out", tmp_path / "two")
    assert refused.code == 1 and "--allow-pickle" in refused.err and not (tmp_path / "two").exists()
    said = seedbed("export", tmp_path / "pickled", "--allow-pickle", "--out", tmp_path / "two")
    assert said.code == 0, said.err
    one, two = (open_bundle(tmp_path / name, dtype="bfloat16")[0] for name in ("one", "two"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_wrong_export_is_refused(seedbed: Callable, tiny_run: Path, tmp_path: Path) -> None:
    said = seedbed("export", tiny_run, "--format", "onnx", "--out", tmp_path / "out")
    assert said.code == 2 and "unknown format 'onnx'; allowed: bundle" in said.err
    said = seedbed("export", tmp_path / "absent", "--out", tmp_path / "out")
    assert said.code == 1 and "there is no model at" in said.err
    said = seedbed("export", tiny_run, "--dtype", "int8", "--out", tmp_path / "out")
    assert said.code == 2 and "dtype='int8' is unknown" in said.err


def test_a_training_starts_from_any_model(
    seedbed: Callable, tiny_run: Path, corpus: Path, tmp_path: Path
) -> None:
    """A run's own folder is its model, as everywhere else."""
    settings = ("training.context_tokens=16", "training.batch_tokens=64", f"model.base={tiny_run}")
    how = [part for setting in settings for part in ("--set", setting)]
    said = seedbed("pretrain", corpus, "--steps", 1, "--out", tmp_path / "run", *how)
    assert said.code == 0, said.err
    assert open_bundle(tmp_path / "run" / "model")[0].config.d_model == 16
