"""A tuned run and its adapter: what doctor says of them, and what export makes of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import masked_models

import seedbed as library

RECORDS = [{"text": f"a seed {n} of rain", "label": ("wet", "dry")[n % 2]} for n in range(60)]


@pytest.fixture(scope="module")
def tuned(seedbed: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `tune` on labels, from a tiny encoder."""
    folder = tmp_path_factory.mktemp("adapters")
    masked_models.model("bert").save(folder / "base")
    (folder / "DATA.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    settings = [part for one in ("training.batch_tokens=64", "peft.rank=2") for part in ("--set", one)]
    made = ["tune", folder / "base", folder / "DATA.jsonl", "--out", folder / "run", "--steps", "4"]
    said = seedbed(*made, *settings)
    assert said.code == 0, said.err
    assert "seedbed predict" in said.out and "ANSWERS.jsonl" in said.out
    return folder / "run"


@pytest.mark.parametrize("inner", ["", "adapter"])
def test_an_adapter_has_a_method_and_a_base(seedbed: Callable[..., Any], tuned: Path, inner: str) -> None:
    place = tuned / inner
    said = seedbed("doctor", place, "--json")
    found = said.json
    assert said.code == 0 and not found["problems"] and found["kind"] == ("adapter" if inner else "run")
    assert found["holds"]["method"] == "lora" and "r 2" in found["holds"]["settings"]
    assert found["holds"]["base"] == f"{tuned.parent / 'base'}, found"
    assert found["holds"]["fingerprint"].endswith("that of the base it was trained on")
    assert f"seedbed export {place} --out FOLDER" in found["holds"]["merged"]
    own = f"seedbed predict {tuned} FILE --out ANSWERS.jsonl"
    assert found["next"].startswith(
        f'python -c \'import seedbed; print(seedbed.load("{place}")' if inner else own
    )


def test_another_base_and_none_are_problems(seedbed: Callable[..., Any], tuned: Path, tmp_path: Path) -> None:
    shutil.copytree(tuned.parent / "base", tmp_path / "base")
    shutil.copytree(tuned / "adapter", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    values = json.loads(file.read_text()) | {"base_model_name_or_path": str(tmp_path / "base")}
    file.write_text(json.dumps(values))
    lm = library.load(tmp_path / "base")
    with torch.no_grad():
        next(lm.module.parameters()).add_(1)
    lm.save(tmp_path / "base", force=True)
    said = seedbed("doctor", tmp_path / "adapter")
    assert said.code == 1 and "was trained on another base" in " ".join(said.out.split())
    shutil.rmtree(tmp_path / "base")
    said = seedbed("doctor", tmp_path / "adapter")
    assert said.code == 1 and "there is no model at" in " ".join(said.out.split())


def test_a_method_that_is_not_ours_is_merged_elsewhere(
    seedbed: Callable[..., Any], tuned: Path, tmp_path: Path
) -> None:
    shutil.copytree(tuned / "adapter", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peft_type": "POLY"}))
    said = seedbed("doctor", tmp_path / "adapter", "--json")
    assert said.code == 1 and "which is not supported" in said.json["problems"][0]
    assert said.json["holds"]["method"] == "poly" and "with the tool that made it" in said.json["next"]


@pytest.mark.parametrize("inner", ["", "adapter"])
def test_export_merges_and_says_so(
    seedbed: Callable[..., Any], tuned: Path, tmp_path: Path, inner: str
) -> None:
    said = seedbed("export", tuned / inner, "--out", tmp_path / "whole")
    assert said.code == 0, said.err
    assert "the adapter, into its base" in " ".join(said.out.split())
    assert not (tmp_path / "whole" / "adapter_config.json").exists()
    assert "an adapter merged into its base" in (tmp_path / "whole" / "README.md").read_text()
    adapted, merged = library.load(tuned), library.load(tmp_path / "whole")
    assert adapted.adapter is not None and merged.adapter is None
    for one, other in zip(*(m.classify(["a seed", "rain"]) for m in (adapted, merged)), strict=True):
        assert list(one.scores.values()) == pytest.approx(list(other.scores.values()), abs=1e-5)
    plain = seedbed("export", tuned.parent / "base", "--out", tmp_path / "plain", "--json")
    assert plain.json["merged_into"] is None
