"""Plug-in packages find their plug-ins by file name, and import one only when it is used."""

import sys
from pathlib import Path

import pytest

from seedbed.base.errors import UsageError
from seedbed.base.plugins import PluginPackage


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginPackage[int]:
    folder = tmp_path / "pantry"
    folder.mkdir()
    for name, text in {
        "__init__": "",
        "flour": "JAR = 1",
        "sugar": "JAR = 2",
        "_shelf": "boom = 1 / 0",
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return PluginPackage("pantry", "JAR")


def test_names_are_the_files_and_none_is_imported(package: PluginPackage[int]) -> None:
    assert package.names() == ["flour", "sugar"]
    assert not [name for name in sys.modules if name.startswith("pantry.")]


def test_one_is_imported_by_its_name(package: PluginPackage[int]) -> None:
    assert package.get("sugar") == 2
    assert "pantry.flour" not in sys.modules


def test_an_unknown_name_is_refused_with_the_nearest(package: PluginPackage[int]) -> None:
    with pytest.raises(
        UsageError, match=r"no jar is named 'suger'; did you mean 'sugar'\? allowed: flour, sugar"
    ):
        package.get("suger")
