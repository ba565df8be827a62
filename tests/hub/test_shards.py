"""Weights in shards load as those of one file do, without a copy; a wrong index is refused in one line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from seedbed.base.errors import BundleError
from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.models.network import build, family, initialize

INDEX = "model.safetensors.index.json"


def make(name: str = "gpt2", **changes: Any) -> Any:
    config = replace(family(name).sized(64, 2), vocab_size=300, max_positions=48, **changes)
    module = build(config).eval()
    initialize(module, torch.Generator().manual_seed(0))
    return module


def shard(bundle: Path, num_shards: int) -> Path:
    """Cut the one file of a bundle into shards, tensor by tensor in turn -> the index."""
    tensors = load_file(bundle / "model.safetensors")
    parts: list[dict[str, torch.Tensor]] = [{} for _ in range(num_shards)]
    for number, (name, tensor) in enumerate(tensors.items()):
        parts[number % num_shards][name] = tensor
    names = [f"model-{n:05d}-of-{num_shards:05d}.safetensors" for n in range(1, num_shards + 1)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, bundle / name)
    places = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
    (bundle / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    (bundle / "model.safetensors").unlink()
    return bundle / INDEX


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return shard(save_bundle(tmp_path / "bundle", make()), 3)


def change_index(index: Path, **places: Any) -> None:
    values = json.loads(index.read_text())
    values["weight_map"] |= places
    index.write_text(json.dumps(values))


def refused(index: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(index.parent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_shards_that_transformers_wrote_load_bit_equal(name: str, tmp_path: Path) -> None:
    module = make(name)
    save_bundle(tmp_path / "one", module)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    found = dict(open_bundle(tmp_path / "many")[0].named_parameters())
    assert all(torch.equal(tensor, found[name]) for name, tensor in module.named_parameters())
    open_bundle(tmp_path / "many", dtype="bfloat16")


def test_one_file_is_taken_before_an_index(index: Path) -> None:
    save_bundle(index.parent.with_name("other"), make())
    whole = index.parent.with_name("other") / "model.safetensors"
    (index.parent / whole.name).write_bytes(whole.read_bytes())
    index.write_text("no index")
    open_bundle(index.parent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"index\.json is not JSON"),
        ("[]", r"index\.json contains a list, not an object"),
        ("{}", r"index\.json has no weight_map of tensors; write or download it again"),
        ('{"weight_map": {}}', "has no weight_map of tensors"),
        ('{"weight_map": ["a"]}', "has no weight_map of tensors"),
        ('{"weight_map": {"a": 1}}', "gives 'a' the shard '1'; allowed: the name of a file beside it"),
        ('{"weight_map": {"a": "x\\n"}}', "allowed: the name of a file beside it"),
        (
            '{"weight_map": {"a": "../x.safetensors"}}',
            r"'\.\./x\.safetensors'; allowed: the name of a file beside it",
        ),
        (
            '{"weight_map": {"a": "/etc/passwd"}}',
            "gives 'a' the shard '.*'; allowed: the name of a file beside it",
        ),
        ('{"weight_map": {"a": ".."}}', "gives 'a' the shard '.*'; allowed: the name of a file beside it"),
        ('{"weight_map": {"a": "b\\\\c"}}', "allowed: the name of a file beside it"),
        ('{"weight_map": {"a": ""}}', "gives 'a' the shard '.*'; allowed: the name of a file beside it"),
    ],
)
def test_what_is_no_index_is_refused(index: Path, content: str, message: str) -> None:
    index.write_text(content)
    refused(index, message)


def test_a_missing_shard_is_named(index: Path) -> None:
    (index.parent / "model-00002-of-00003.safetensors").unlink()
    refused(index, r"bundle lacks the shard model-00002-of-00003\.safetensors, which model\.safetensors\.ind")
    (index.parent / "model-00001-of-00003.safetensors").unlink()
    refused(index, r"lacks the shard model-00001-of-00003\.safetensors and 1 more, which .*download it again")


def test_a_shard_that_contradicts_its_index_is_refused(index: Path) -> None:
    places = json.loads(index.read_text())["weight_map"]
    change_index(index, extra="model-00003-of-00003.safetensors")
    refused(
        index, r"model-00003-of-00003\.safetensors lacks extra, which model.* places there; the shard belongs"
    )
    del places["transformer.wte.weight"]
    index.write_text(json.dumps({"weight_map": places}))
    refused(index, r"has 1 tensors that .* does not place there, first transformer\.wte\.weight; the shard")


def test_a_truncated_shard_is_refused(index: Path) -> None:
    file = index.parent / "model-00002-of-00003.safetensors"
    content = file.read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refused(index, r"model-00002-of-00003\.safetensors cannot be read: .*; it is truncated or damaged")


def test_a_config_beyond_all_shards_is_refused_before_memory_is_allocated(index: Path) -> None:
    file = index.parent / "config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"vocab_size": 10**12}))
    refused(index, r"index\.json: the config needs 64000000103168 parameters, but the weights have")
    file.write_text(json.dumps(values | {"n_layer": 3}))
    refused(index, r"index\.json: 12 tensors are missing from the weights, first transformer\.h\.2")


def test_packed_numbers_are_refused(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "bundle", make())
    tensors = load_file(bundle / "model.safetensors")
    tensors["transformer.wte.weight"] = tensors["transformer.wte.weight"].to(torch.int8)
    save_file(tensors, bundle / "model.safetensors")
    refused(bundle / INDEX, r"transformer\.wte\.weight has numbers in int8, which are packed or not weights")


MEASURE = """
import sys
from seedbed.base.runtime import begin_peak, peak_resident_bytes
from seedbed.hub.bundle import open_bundle
open_bundle(sys.argv[1])  # the imports
before = begin_peak()
module = open_bundle(sys.argv[2])[0]
print(peak_resident_bytes() - before, sum(p.nbytes for p in module.parameters()))
"""


@pytest.mark.parametrize("num_shards", [1, 4])
def test_loading_takes_no_second_copy(num_shards: int, tmp_path: Path) -> None:
    """Mapped pages count as resident: they are unmapped while the files are read."""
    small = save_bundle(tmp_path / "small", make())
    config = replace(family("llama").sized(512, 20), vocab_size=40_000, tie_embeddings=True)
    module = build(config).eval()
    for parameter in module.parameters():
        parameter.data.zero_()
    big = save_bundle(tmp_path / "big", module)
    if num_shards > 1:
        shard(big, num_shards)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, small, big], capture_output=True, text=True, check=True
    )
    peak, weights = map(int, done.stdout.split())
    assert weights > 300e6
    assert weights * 0.9 < peak < weights + 140e6, f"{peak:,} bytes at the peak for {weights:,}"
