"""An objective and a family that do not go together are refused before anything is read."""

from pathlib import Path

import pytest

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import ConfigError


@pytest.mark.parametrize(
    ("family", "shape"),
    [("bert", "an encoder"), ("t5", "an encoder-decoder"), ("bart", "an encoder-decoder")],
)
def test_causal_trains_decoders_alone(family: str, shape: str, tmp_path: Path) -> None:
    words = f"the objective causal trains a decoder, but {family} is {shape}; choose a family of bloom, "
    with pytest.raises(ConfigError, match=words):
        pretrain("builtin:prose", out=tmp_path / "run", family=family)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=words):
        seedbed.plan(family)


def test_a_base_is_refused_likewise(tmp_path: Path) -> None:
    seedbed.new(seedbed.new("bert:tiny").config, seed=0).save(tmp_path / "bert")
    with pytest.raises(ConfigError, match="causal trains a decoder, but bert is an encoder"):
        seedbed.plan(tmp_path / "bert")
