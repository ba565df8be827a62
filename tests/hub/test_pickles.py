"""PyTorch's own files: read if allowed, and only tensors; code in them never runs."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import seedbed
from seedbed.base.errors import BundleError
from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.models.network import build, family, initialize


def make() -> Any:
    config = family("gpt2").sized(64, 2)
    module = build(config).eval()
    initialize(module, torch.Generator().manual_seed(0))
    return module


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("saved") / "bundle", make())


@pytest.fixture
def bundle(saved: Path, tmp_path: Path) -> Path:
    """A bundle without weights."""
    folder = tmp_path / "bundle"
    shutil.copytree(saved, folder)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def tensors(saved: Path) -> dict[str, torch.Tensor]:
    return load_file(saved / "model.safetensors")


def refused(bundle: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(bundle, allow_pickle=True)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def check_loads(bundle: Path, saved: Path) -> None:
    found = dict(open_bundle(bundle, allow_pickle=True)[0].named_parameters())
    for name, tensor in open_bundle(saved)[0].named_parameters():
        assert torch.equal(tensor, found[name])


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_loads_when_allowed(
    bundle: Path, saved: Path, tensors: dict[str, torch.Tensor], is_zip: bool
) -> None:
    given = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    torch.save(given, bundle / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    message = r"weights only as a pickle \(pytorch_model\.bin\), .*--allow-pickle, or allow_pickle=True"
    with pytest.raises(BundleError, match=message):
        seedbed.load(bundle)
    check_loads(bundle, saved)
    assert seedbed.load(bundle, allow_pickle=True).config.d_model == 64


def test_pickles_in_shards_load(bundle: Path, saved: Path, tensors: dict[str, torch.Tensor]) -> None:
    names = list(tensors)
    parts = {"pytorch_model-1-of-2.bin": names[::2], "pytorch_model-2-of-2.bin": names[1::2]}
    for file, part in parts.items():
        torch.save({name: tensors[name].clone() for name in part}, bundle / file)
    places = {name: file for file, part in parts.items() for name in part}
    (bundle / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(BundleError, match=r"only as a pickle \(pytorch_model\.bin\.index\.json\)"):
        open_bundle(bundle)
    check_loads(bundle, saved)
    (bundle / "pytorch_model-2-of-2.bin").unlink()
    refused(bundle, r"lacks the shard pytorch_model-2-of-2\.bin, which pytorch_model\.bin\.index\.json names")


def test_safetensors_are_taken_where_both_lie(bundle: Path, saved: Path) -> None:
    (bundle / "pytorch_model.bin").write_bytes(b"no pickle")
    shutil.copy(saved / "model.safetensors", bundle)
    check_loads(bundle, saved)


class Attack:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("is_zip", [True, False])
def test_an_attack_is_not_run(bundle: Path, tmp_path: Path, is_zip: bool) -> None:
    torch.save(
        {"a": Attack(tmp_path / "trace")},
        bundle / "pytorch_model.bin",
        _use_new_zipfile_serialization=is_zip,
    )
    refused(
        bundle,
        r"pytorch_model\.bin calls posix\.system, which is not a tensor and may be an attack; it",
    )
    assert not (tmp_path / "trace").exists()
    torch.load(bundle / "pytorch_model.bin", weights_only=False)  # it would have run
    assert (tmp_path / "trace").exists()


def test_a_bare_pickle_is_not_run(bundle: Path, tmp_path: Path) -> None:
    (bundle / "pytorch_model.bin").write_bytes(pickle.dumps(Attack(tmp_path / "trace")))
    refused(bundle, "pytorch_model.bin cannot be read: Unsupported operand 149; it is truncated or damaged")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "contains a list; allowed: tensors by name"),
        (torch.ones(2), "contains a Tensor; allowed: tensors by name"),
        (
            {"state_dict": {"a": torch.ones(2)}},
            "contains a dict as 'state_dict'; allowed: plain tensors",
        ),
        ({"epoch": 3}, "contains a int as 'epoch'; allowed: plain tensors"),
        ({3: torch.ones(2)}, "has the name '3', which is not allowed"),
        ({"a\nb": torch.ones(2)}, r"has the name 'a\\nb', which is not allowed"),
        ({"a": torch.ones(2, 2).to_sparse()}, "contains a packed tensor as 'a'"),
        ({"a": torch.ones(2)}, "the config needs 2 layers, but the weights have 1 tensors"),
        ({}, "the config needs 2 layers, but the weights have 0 tensors"),
    ],
)
def test_what_is_no_state_dict_is_refused(bundle: Path, value: Any, message: str) -> None:
    torch.save(value, bundle / "pytorch_model.bin")
    refused(bundle, message)


def test_a_view_that_repeats_one_number_takes_no_memory(
    bundle: Path, tensors: dict[str, torch.Tensor]
) -> None:
    """A stride of 0 gives any shape to a file of a few bytes."""
    values = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps(values | {"vocab_size": 10**11}))
    wide = torch.ones(1, 1).expand(10**11, 64)
    torch.save(tensors | {"transformer.wte.weight": wide}, bundle / "pytorch_model.bin")
    refused(bundle, "the config needs 6400000165632 parameters, but the weights have")


@pytest.mark.parametrize("is_zip", [True, False])
def test_truncated_and_damaged_pickles_are_refused(
    bundle: Path, tensors: dict[str, torch.Tensor], is_zip: bool
) -> None:
    file = bundle / "pytorch_model.bin"
    torch.save(tensors, file, _use_new_zipfile_serialization=is_zip)
    content = file.read_bytes()
    reported = r"pytorch_model\.bin(:| cannot be read| calls| contains)"
    for length in (0, 1, 3, 40, 200, 1000, len(content) // 2, len(content) - 30):
        file.write_bytes(content[:length])
        refused(bundle, reported)
    generator = torch.Generator().manual_seed(0)
    num_refused = 0
    for _ in range(25):
        changed = bytearray(content)
        for at in torch.randint(2000, (3,), generator=generator).tolist():
            changed[at] = at % 256
        file.write_bytes(changed)
        try:
            open_bundle(bundle, allow_pickle=True)
        except BundleError as error:
            num_refused += 1
            assert "\n" not in str(error)
    assert num_refused > 5


def test_a_compressed_archive_is_refused(bundle: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(tensors, bundle / "plain.bin")
    with (
        zipfile.ZipFile(bundle / "plain.bin") as plain,
        zipfile.ZipFile(bundle / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    refused(bundle, "is a compressed archive, which torch.save never writes; take the model in safetensors")
