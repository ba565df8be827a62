"""Models that installed packages carry, found without running a line of the package."""

import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import seedbed
from seedbed.api.plan import plan
from seedbed.base.errors import BundleError
from seedbed.hub.bundle import save_bundle
from seedbed.hub.locate import locate, package_model
from seedbed.models.network import build, family

TRAP = "raise SystemExit('the package was imported')\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages are installed into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def install(site: Path, name: str, *, listed: bool = True, distribution: bool = True) -> Path:
    """Put an empty package there; `list_files` updates the installer's list."""
    package = site / name
    package.mkdir()
    (package / "__init__.py").write_text(TRAP)
    if distribution:
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        )
        if listed:
            (info / "RECORD").write_text("")
    return package


def list_files(site: Path, package: Path) -> None:
    files = [os.path.relpath(file, site) for file in package.rglob("*") if file.is_file()]
    (site / f"{package.name}-1.0.dist-info" / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.mark.parametrize("way", ["listed", "in place", "no distribution"])
@pytest.mark.parametrize("name", ["tiny_model_kit", "tiny-model-kit"])
def test_a_gguf_file_of_a_package_loads(site: Path, write_gguf: Any, way: str, name: str) -> None:
    package = install(site, "tiny_model_kit", listed=way == "listed", distribution=way != "no distribution")
    module = small()
    shutil.copy(write_gguf(module)[0], package / "tiny.gguf")
    if way == "listed":
        list_files(site, package)
    assert package_model(name) == package / "tiny.gguf"
    lm = seedbed.load(f"package:{name}")
    assert lm.config.d_model == 64 and lm.tokenizer is None
    assert len(lm.generate([1, 2], 3, temperature=0).token_ids) == 3
    assert "tiny_model_kit" not in sys.modules


def test_a_training_of_a_package_is_planned(site: Path, write_gguf: Any) -> None:
    module = small()
    shutil.copy(write_gguf(module)[0], install(site, "plan_kit", distribution=False) / "tiny.gguf")
    planned = plan("package:plan-kit", overrides=["training.context_tokens=16"])
    assert planned.parameters == sum(p.numel() for p in module.parameters())


def small() -> Any:
    """A LLaMA of the size that the writer knows."""
    config = replace(family("llama").sized(64, 2), vocab_size=40, max_positions=16, d_ff=96)
    module = build(replace(config, num_heads=4).with_attention(num_kv_heads=2)).eval()
    for parameter in module.parameters():
        parameter.data.fill_(0.01)
    return module


def test_a_folder_of_a_package_loads(site: Path) -> None:
    package = install(site, "folder_kit")
    save_bundle(package / "model", small())
    (package / "config.json").write_text("{}")  # beside no weights: no model
    list_files(site, package)
    assert locate("package:folder-kit") == package / "model"
    assert seedbed.load("package:folder_kit").config.num_layers == 2


def test_a_package_with_no_model_or_several_is_refused(site: Path) -> None:
    package = install(site, "two_kit")
    with pytest.raises(
        BundleError, match=r"the package two_kit contains no model: no \.gguf file, no config"
    ):
        locate("package:two_kit")
    (package / "a.gguf").write_bytes(b"")
    (package / "b.gguf").write_bytes(b"")
    list_files(site, package)
    with pytest.raises(BundleError, match=r"contains 2 models; give the path of one: .*a\.gguf"):
        locate("package:two_kit")
    shutil.rmtree(package)  # still listed
    with pytest.raises(BundleError, match="contains no model"):
        locate("package:two_kit")
    with pytest.raises(
        BundleError, match="the package nowhere-kit is not installed; install it with pip, or check"
    ):
        locate("package:nowhere-kit")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-a", "a\n", "os.path.", "é"])
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="is not the name of a package; write package:NAME") as caught:
        locate(f"package:{name}")
    assert "\n" not in str(caught.value)


def test_a_name_with_a_dot_imports_no_parent(site: Path) -> None:
    install(site, "parent_kit", distribution=False)
    with pytest.raises(BundleError, match=re.escape("the package parent_kit.child is not installed")):
        locate("package:parent_kit.child")


@pytest.mark.parametrize("name", ["json", "sys"])
def test_a_module_of_python_itself_carries_no_model(name: str) -> None:
    with pytest.raises(BundleError, match=f"the package {name} contains no model"):
        locate(f"package:{name}")


def test_a_folder_with_one_gguf_file_is_a_model(write_gguf: Any, tmp_path: Path) -> None:
    path, _ = write_gguf(small())
    assert locate(tmp_path) == path and locate(path) == path
    assert seedbed.load(tmp_path).config.d_ff == 96
    shutil.copy(path, tmp_path / "again.gguf")
    with pytest.raises(BundleError, match=r"contains 2 models; give the path of one: .*again\.gguf"):
        locate(tmp_path)
