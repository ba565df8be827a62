"""A flipped bit of a safetensors file is refused in one line or harmless: no traceback, no panic."""

import json
import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seedbed.base.errors import BundleError, SeedbedWarning
from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.models.network import build, family, initialize


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    module = build(replace(family("gpt2").sized(64, 2), vocab_size=300, max_positions=48)).eval()
    initialize(module, torch.Generator().manual_seed(0))
    return save_bundle(tmp_path / "bundle", module)


def test_a_flipped_bit_of_the_header_is_refused(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, chance, reported = bundle / "model.safetensors", random.Random(0), 0
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 3))):
            damaged[chance.randrange(header)] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        try:
            open_bundle(bundle)
        except BundleError as error:
            reported += 1
            assert str(error).startswith(str(bundle)) and str(error).isprintable()
    assert reported > 250
    assert "panicked" not in capfd.readouterr().err


def test_a_flipped_bit_of_a_number_loads_and_one_not_finite_warns(bundle: Path) -> None:
    file = bundle / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # the format has no checksum
    file.write_bytes(content)
    open_bundle(bundle)
    content[-4:] = struct.pack("<f", float("inf"))
    file.write_bytes(content)
    with pytest.warns(SeedbedWarning, match="1 number that is not finite"):
        open_bundle(bundle)


def test_names_that_would_command_the_terminal_are_not_printed(bundle: Path) -> None:
    file = bundle / "model.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    values = json.loads(content[8:header])
    values["\x1b[2J"] = values.pop("transformer.ln_f.bias")
    changed = json.dumps(values).encode()
    changed += b" " * (-len(changed) % 8)
    file.write_bytes(struct.pack("<Q", len(changed)) + changed + content[header:])
    with pytest.raises(BundleError, match=r"has the name '\\x1b\[2J', which cannot be printed"):
        open_bundle(bundle)
