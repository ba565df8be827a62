"""Settings files and names that TOML, a file system or the settings refuse: an error of one line each."""

from pathlib import Path
from typing import Any

import pytest

from seedbed.api.plan import plan
from seedbed.api.pretrain import resume
from seedbed.base.errors import SeedbedError, UsageError
from seedbed.runs.start import run_settings

TEXT = "The seeds in the garden are small. Who sows them? " * 99
FILES = {
    "a list in lists": ("a = " + "[" * 5000, "too deep"),
    "tables in tables": ("a = " + "{a = " * 900 + "3", "is not TOML|too deep"),
    "5,000 digits": ("a = " + "9" * 5000, "is not TOML.*digits"),
    "5,000 hexadecimal digits": ("[training]\nnum_steps = 0x" + "f" * 5000, "too large"),
    "a long key": ("x." * 3000 + "y = 1", "too deep|unknown|there is no"),
    "a table twice": ("[training]\n[training]", "is not TOML"),
    "a byte-order mark": ("\ufeff[training]\nnum_steps = 3", "is not TOML"),
    "no table": ("training = 3", r"training=3 is not allowed: give a table, \[training\]"),
    "a list of tables": ("[[training]]\nnum_steps = 3", "give a table"),
    "a name that is a list": ("[objective]\nname = ['causal']", "objective.name=.*give text"),
    "a name that is a number": ("[objective]\nname = 0.5", "objective.name=0.5.*give text"),
    "an unknown name": ("[objective]\nname = 'casual'", "did you mean 'causal'"),
    "a family that is a list": ("[model]\nfamily = [1]", "model.family=.*give text"),
    "a path with a null": ('[tokenizer]\npath = "\\u0000"', "characters that no path has"),
    "a path of 300 characters": (f"[tokenizer]\npath = '{'x' * 300}'", "at most 255"),
    "no number": ("[training]\nlearning_rate = nan", "learning_rate"),
    "an endless number": ("[training]\nlearning_rate = inf", "learning_rate"),
}


@pytest.fixture
def data(tmp_path: Path) -> str:
    file = tmp_path / "data.txt"
    file.write_text(TEXT)
    return str(file)


@pytest.mark.parametrize("kind", FILES)
def test_an_odd_settings_file_is_one_line(kind: str, data: str, tmp_path: Path) -> None:
    content, expected = FILES[kind]
    (tmp_path / "odd.toml").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=f"(?i){expected}") as error:
        run_settings(data, out=tmp_path / "run", settings_file=tmp_path / "odd.toml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "\x00", "\ud800", "a\nb", "é" * 200])
@pytest.mark.parametrize("argument", ["out", "data", "tokenizer", "base", "family", "recipe", "objective"])
def test_an_odd_name_is_one_line(
    argument: str, name: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"data": data, "out": "run"} | {argument: name}
    if argument == "out" and name == "a\nb":  # a name like any other, not opened yet
        run_settings(given.pop("data"), **given)
        return
    with pytest.raises(SeedbedError) as error:
        run_settings(given.pop("data"), **given)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "\x00", "\ud800", "nowhere\n"])
def test_an_odd_run_or_model_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (resume, plan, lambda data: plan("gpt2", data=data)):
        with pytest.raises(SeedbedError) as error:
            call(name)
        assert "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize("overrides", [3, "training.num_steps=3", [1.5], [None], {"a": 1}])
def test_odd_overrides_are_refused(overrides: Any, data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"overrides.* is not a (list of texts|text)"):
        run_settings(data, out=tmp_path / "run", overrides=overrides)


def test_a_deleted_current_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="the current folder does not exist any more"):
        run_settings("data.txt", out="run")
