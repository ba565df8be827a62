"""`seedbed doctor` reports the extras that pyproject.toml declares."""

import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from seedbed.api import doctor

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_extras_are_those_of_pyproject() -> None:
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    found = doctor.installed_extras()
    assert sorted(found) == sorted(declared)
    assert found["test"] and found["data"]


def test_an_extra_counts_only_when_all_of_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Any = doctor.version

    def version(library: str) -> str:
        if library == "hypothesis":
            raise PackageNotFoundError(library)
        return str(whole(library))

    monkeypatch.setattr(doctor, "version", version)
    found = doctor.installed_extras()
    assert not found["test"] and found["data"]
