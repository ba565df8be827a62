"""Weights that are not finite load with one warning that names the first tensor and the count."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import seedbed
from seedbed.base.errors import SeedbedWarning
from seedbed.cli.app import run
from seedbed.hub.bundle import save_bundle
from seedbed.hub.published import num_not_finite
from seedbed.models.network import build, family, initialize


def make() -> Any:
    module = build(family("gpt2").sized(64, 2)).eval()
    initialize(module, torch.Generator().manual_seed(0))
    return module


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = save_bundle(tmp_path / "bundle", make())
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.1.mlp.c_fc.weight"][3, :2] = float("nan")
    tensors["transformer.ln_f.bias"][0] = float("inf")
    save_file(tensors, folder / "model.safetensors")
    return folder


MESSAGE = r"\b3 numbers .*not finite.* transformer\.ln_f\.bias\b"


@pytest.mark.parametrize("is_pickle", [False, True])
def test_weights_that_are_not_finite_warn_once(bundle: Path, is_pickle: bool) -> None:
    if is_pickle:
        torch.save(load_file(bundle / "model.safetensors"), bundle / "pytorch_model.bin")
        (bundle / "model.safetensors").unlink()
    with pytest.warns(SeedbedWarning, match=MESSAGE) as caught:
        lm = seedbed.load(bundle, allow_pickle=is_pickle)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert lm.config.d_model == 64


def test_saving_them_again_does_not_warn_twice(bundle: Path, tmp_path: Path) -> None:
    with pytest.warns(SeedbedWarning, match=MESSAGE):
        lm = seedbed.load(bundle)
    lm.save(tmp_path / "again")


def test_the_command_line_warns_in_one_line(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        run(["generate", str(bundle), "a prompt"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "no tokenizer" in lines[1]
    assert lines[0].startswith(f"seedbed: warning: {bundle}/model.safetensors has 3 numbers that are not")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_sum_that_overflows_is_not_counted(dtype: torch.dtype) -> None:
    largest = torch.full((1000,), torch.finfo(dtype).max, dtype=dtype)
    assert num_not_finite(largest) == 0
    largest[7], largest[8], largest[9] = float("inf"), float("-inf"), float("nan")
    assert num_not_finite(largest) == 3
    assert num_not_finite(torch.ones(4).to(torch.float8_e4m3fn)) == 0
