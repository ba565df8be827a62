"""Truncated, flipped or hostile bundles: each is refused in one line within two seconds, or loads."""

import json
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import seedbed
from seedbed.base.errors import SeedbedError
from seedbed.hub.bundle import open_bundle
from seedbed.models.network import FAMILIES, family
from seedbed.nn.layout import Layout

LONGEST_SECONDS = 2.0
NUMBERS: tuple[Any, ...] = (-1, 0, 1, 7, 0.5, 10**7, 10**15, 2**63, float("inf"), float("nan"))
WRONG: tuple[Any, ...] = (*NUMBERS, None, True, "", "wrong", [], [1, "a"], {}, {"a": 1})


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny bundle of each family."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in FAMILIES.names():
        lm = seedbed.new(replace(family(name).sized(64, 2), vocab_size=40), seed=0)
        lm.save(folder / name)
    return {name: folder / name for name in FAMILIES.names()}


@pytest.fixture
def copied(bundles: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(bundles[name], tmp_path / name))


def outcome(path: Path) -> str:
    """The error of opening the bundle, one line within two seconds; empty if it loads and runs."""
    started = time.perf_counter()
    said = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that are not finite cause a warning
        try:
            module: Any = open_bundle(path)[0]
        except SeedbedError as error:
            said = str(error)
        else:
            _run(module)
    assert time.perf_counter() - started < LONGEST_SECONDS
    assert "\n" not in said and len(said) < 1000
    return said


@torch.no_grad()
def _run(module: Any) -> None:
    length = min(5, module.config.max_positions or 5)
    ids, layout = torch.arange(length) % module.config.vocab_size, Layout.of([length])
    both = module.config.shape == "encoder-decoder"
    source = {"source": ids, "source_layout": layout} if both else {}
    module.output(module(ids, layout, **source))


def changed_configs(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each key left out, and each with wrong values, eight in turn; those of tables in it likewise."""
    for at, (key, value) in enumerate(values.items()):
        yield {name: v for name, v in values.items() if name != key}
        yield from (values | {key: WRONG[(8 * at + i) % len(WRONG)]} for i in range(8))
        if isinstance(value, dict):
            yield from (values | {key: inner} for inner in changed_configs(value))


@pytest.mark.parametrize("name", FAMILIES.names())
def test_a_wrong_config_is_refused(name: str, copied: Callable[[str], Path]) -> None:
    folder = copied(name)
    file = folder / "config.json"
    whole = json.loads(file.read_text())
    reported = cases = 0
    for values in changed_configs(whole):
        file.write_text(json.dumps(values))
        cases += 1
        reported += bool(outcome(folder))
    assert cases > 60 and reported > cases / 4


@pytest.mark.parametrize("name", ["gpt2", "t5", "lstm"])
def test_a_truncated_or_flipped_config_is_refused(name: str, copied: Callable[[str], Path]) -> None:
    folder, chance = copied(name), random.Random(0)
    file = folder / "config.json"
    whole = file.read_bytes()
    for length in range(0, len(whole) - 2, 9):
        file.write_bytes(whole[:length])
        assert "is not JSON" in outcome(folder)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        outcome(folder)
    deep = (b"[" * 100_000, b'{"a":' * 100_000)
    for hostile in (*deep, b"\xff\xfe", b"", b"null", b"[1]", b'"text"', b"1e999", whole * 2):
        file.write_bytes(hostile)
        assert outcome(folder)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "t5", "bart", "lstm"])
def test_truncated_or_flipped_weights_are_refused(
    name: str, copied: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, chance = copied(name), random.Random(0)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in (*range(0, 40, 3), *range(40, header, header // 15), header, header + 1, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert "truncated or damaged" in outcome(folder)
    reported = 0
    for place in (*range(8), *(chance.randrange(header) for _ in range(80))):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        reported += bool(outcome(folder))
    assert reported > 60
    for _ in range(20):  # the format has no checksum: it loads, whatever the weights are now
        damaged = bytearray(whole)
        damaged[chance.randrange(header, len(whole))] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        assert not outcome(folder)
    assert "panicked" not in capfd.readouterr().err


ONE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HOSTILE_HEADERS = {
    "no object": b"[]",
    "deep": b'{"a":' * 5000,
    "huge shape": b'{"a":{"dtype":"F32","shape":[99999999999,99999999999],"data_offsets":[0,4]}}',
    "overlapping": b"{" + ONE + b"," + ONE.replace(b'"a"', b'"b"') + b"}",
    "backwards": b"{" + ONE.replace(b"[0,4]", b"[4,0]") + b"}",
    "beyond": b"{" + ONE.replace(b"[0,4]", b"[0,99999]") + b"}",
    "unknown type": b"{" + ONE.replace(b"F32", b"F1") + b"}",
    "no tensors": b"{}",
    "a name twice": b"{" + ONE + b"," + ONE + b"}",
}


@pytest.mark.parametrize("case", HOSTILE_HEADERS)
def test_a_hostile_header_is_refused(case: str, copied: Callable[[str], Path]) -> None:
    folder, header = copied("gpt2"), HOSTILE_HEADERS[case]
    file = folder / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    assert outcome(folder)
    for length in (2**63, 2**64 - 1, 10**9):  # the header's length in the file
        file.write_bytes(length.to_bytes(8, "little") + header)
        assert outcome(folder)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "t5", "bart", "bloom", "gru"])
def test_renamed_missing_or_misshapen_tensors_are_named(name: str, copied: Callable[[str], Path]) -> None:
    folder = copied(name)
    file = folder / "model.safetensors"
    whole = load_file(file)
    for key, tensor in list(whole.items())[::4]:
        rest = {k: t for k, t in whole.items() if k != key}
        for damaged in (
            rest,
            rest | {key + "x": tensor},
            rest | {key: tensor.repeat(2, *[1] * (tensor.ndim - 1))},
            rest | {key: tensor.flatten()[:1]},
            rest | {key: tensor.flatten()[:0]},
            whole | {"surplus.weight": torch.ones(2)},
        ):
            save_file(damaged, file)
            said = outcome(folder)
            assert str(file) in said or "tokenizer" in said
            assert "; " in said  # what to do
