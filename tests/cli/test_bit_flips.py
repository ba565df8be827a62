"""One flipped bit in any file of a stopped run is reported, and the run ends as without it.

`benchmarks/bit_flips.py` flips many more.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.moments import At, interrupt

from seedbed.api.pretrain import pretrain
from seedbed.base.errors import StoppedEarly
from seedbed.training.metrics import read_metrics

# Each file with its warning.
FILES = {
    "run/settings.toml": "settings.toml is damaged or was changed after the training began; it is restored",
    "run/plan.json": "plan.json is damaged or was changed after the training began; it is restored",
    "run/examples.json": "examples.json is damaged or was changed after the training began; it is restored",
    "run/tokenizer/tokenizer.json": "tokenizer.json is damaged or was changed",
    "run/tokenizer/tokenizer_config.json": "tokenizer_config.json is damaged or was changed",
    "run/.copies/settings.toml": ".copies/settings.toml is damaged; it is restored",
    "run/metrics.jsonl": "cut or damaged and left out, the first is line",
    "run/checkpoints/000016/state.json": "000016 is damaged: state.json",
    "run/checkpoints/000016/optimizer.safetensors": "000016 is damaged: optimizer.safetensors",
    "run/checkpoints/best-000010/weights.safetensors": "best-000010 is damaged: weights.safetensors",
    ".shards/*/train/tokens.bin": "train/tokens.bin does not match its SHA-256; it is rebuilt",
    ".shards/*/train/offsets.bin": "train/offsets.bin does not match its SHA-256; it is rebuilt",
    ".shards/*/validation/tokens.bin": "validation/tokens.bin does not match its SHA-256; it is rebuilt",
}
TEXTS = (".json", ".jsonl", ".toml")


def result(run: Path) -> tuple[dict[str, bytes], list[Any]]:
    """Return the files and the curve of a finished run, without times."""
    files = [*(run / "model").iterdir(), *(run / "tokenizer").glob("*.json"), run / "settings.toml"]
    files += (run / "checkpoints" / "000020").glob("*.safetensors")
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["kind"] != "resume"]
    curve = [(line["kind"], line["step"], line["loss"]) for line in lines]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}, curve


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, pretrain_command: Callable) -> Path:
    """The folder of a stopped run and of its shards."""
    folder = tmp_path_factory.mktemp("stopped")
    _, data, *flags = pretrain_command(folder / "run")
    overrides = [flags[at + 1] for at, flag in enumerate(flags) if flag == "--set"]
    with pytest.raises(StoppedEarly):
        pretrain(
            data,
            out=folder / "run",
            family="gpt2",
            steps=20,
            overrides=overrides,
            callbacks=[At("step", 15, interrupt)],
        )
    return folder


@pytest.fixture(scope="module")
def resumed(
    stopped: Path, tmp_path_factory: pytest.TempPathFactory, pretrain_command: Callable, seedbed: Callable
) -> tuple[dict[str, bytes], list[Any]]:
    """The results of the run without a flip."""
    folder = tmp_path_factory.mktemp("resumed")
    shutil.copytree(stopped, folder, dirs_exist_ok=True)
    assert seedbed(*pretrain_command(folder / "run")).code == 0
    return result(folder / "run")


@pytest.mark.filterwarnings("always::seedbed.base.errors.SeedbedWarning")
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_named_and_the_run_ends_as_without_it(
    name: str,
    stopped: Path,
    resumed: tuple[dict[str, bytes], list[Any]],
    tmp_path: Path,
    seedbed: Callable,
    pretrain_command: Callable,
) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.glob(name)
    content = bytearray(file.read_bytes())
    places = [at for at, byte in enumerate(content) if chr(byte).isalnum() or file.suffix not in TEXTS]
    at = random.Random(name).choice(places)  # white space in a text has no effect
    if file.suffix == ".jsonl":
        at = content.index(b'"loss": ') + len(b'"loss": ')
    content[at] ^= 1 << 1
    file.write_bytes(content)
    if "best" not in name:  # doctor does not read it
        assert seedbed("doctor", tmp_path / "run", "--json").json["problems"]
    said = seedbed(*pretrain_command(tmp_path / "run"))
    assert said.code == 0 and FILES[name] in said.err, said.err
    files, curve = result(tmp_path / "run")
    assert files == resumed[0]
    lost = [line for line in resumed[1] if line not in curve]
    assert len(lost) == (name == "run/metrics.jsonl") and len(curve) == len(resumed[1]) - len(lost)
    (line,) = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "resume"]
    assert line["problems"] or name.startswith(".shards")
