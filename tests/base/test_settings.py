"""Settings survive TOML, flags win over files, and a refusal names what is allowed."""

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.base.errors import ConfigError, UsageError
from seedbed.base.settings import (
    change_text,
    difference,
    flatten,
    load_settings,
    merge,
    read_toml,
    to_toml,
    to_tree,
)


@dataclass(frozen=True)
class Position:
    kind: Literal["rotary", "learned"] = "rotary"
    base: float = 10000.0


@dataclass(frozen=True)
class Training:
    num_steps: int = 1000
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    compile: bool = False

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ConfigError(f"num_steps={self.num_steps} trains nothing; choose 1 or more")


@dataclass(frozen=True)
class Data:
    train: str
    validation: str | None = None
    limit: int | str = "all"
    folder: Path = Path("runs")


@dataclass(frozen=True)
class Everything:
    data: Data
    training: Training = field(default_factory=Training)
    position: Position | None = None


BASE = {"data": {"train": "corpus.txt"}}


def test_defaults_and_layers(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[training]\nnum_steps = 7\nlearning_rate = 1\n[position]\nkind = "learned"\n')
    settings = load_settings(Everything, BASE, {"training": {"num_steps": 5, "compile": True}}, file)
    assert settings.training == Training(num_steps=7, learning_rate=1.0, compile=True)
    assert settings.position == Position(kind="learned")
    assert isinstance(settings.training.learning_rate, float)


def test_flags_win_over_files_and_none_unsets() -> None:
    settings = load_settings(
        Everything,
        BASE,
        {"data": {"validation": "dev.txt"}, "position": {"base": 5.0}},
        overrides=[
            "training.learning_rate=3e-4",
            "data.validation=none",
            "training.betas=[0.8, 0.9]",
            "position=none",
        ],
    )
    assert settings.training.learning_rate == 3e-4
    assert settings.training.betas == (0.8, 0.9)
    assert settings.data.validation is None and settings.position is None


@pytest.mark.parametrize("text", ["2024", "none", "1e3", "true", "a=b", 'say "x"', "[1]", "über.txt"])
def test_a_text_setting_takes_any_flag(text: str) -> None:
    assert load_settings(Everything, overrides=[f"data.train={text}"]).data.train == text


def test_a_setting_of_two_types_takes_both() -> None:
    assert load_settings(Everything, BASE, overrides=["data.limit=30"]).data.limit == 30
    assert load_settings(Everything, BASE, overrides=["data.limit=some"]).data.limit == "some"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "training.num_stps=3",
            ["'num_stps' in [training]", "--set", "did you mean 'num_steps'?", "learning_rate"],
        ),
        ("trainning.num_steps=3", ["unknown setting 'trainning'", "did you mean 'training'?"]),
        ("position.kindd=learned", ["in [position]", "did you mean 'kind'?"]),
        ("training.num_steps=many", ['training.num_steps = "many" (from --set)', "a whole number"]),
        ("training.num_steps=3.5", ["training.num_steps = 3.5", "a whole number"]),
        ("training.num_steps=true", ["training.num_steps = true", "a whole number"]),
        ("training.learning_rate=fast", ["a number"]),
        ("training.compile=1", ["training.compile = 1", "true or false"]),
        ("position.kind=alibi", ['position.kind = "alibi"', "'rotary' or 'learned'"]),
        ("training=3", ["training = 3"]),
        ("training.num_steps", ["is not section.key=value"]),
        ("training.num_steps=0", ["num_steps=0 trains nothing"]),
    ],
)
def test_wrong_values_are_refused_in_one_line(override: str, parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings(Everything, BASE, overrides=[override])
    message = str(caught.value)
    assert "\n" not in message and len(message) < 250
    for part in parts:
        assert part in message, message


def test_a_setting_of_two_types_names_both() -> None:
    with pytest.raises(UsageError, match=r"data.limit = \[1\]: allowed is a whole number or text"):
        load_settings(Everything, {"data": {"train": "x", "limit": [1]}})


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(UsageError, match=r"data\.train is missing"):
        load_settings(Everything, {"data": {}})
    with pytest.raises(UsageError, match="setting data is missing"):
        load_settings(Everything)


def test_a_file_that_is_missing_or_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_toml(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("num_steps = = 3\n")
    with pytest.raises(UsageError, match=r"not TOML: .*line 1"):
        read_toml(broken)
    broken.write_bytes(b"name = '\xff'\n")
    with pytest.raises(UsageError, match="not TOML"):
        read_toml(broken)


def test_toml_contains_every_default() -> None:
    settings = load_settings(Everything, BASE, {"position": {}})
    written = tomllib.loads(to_toml(settings))
    assert written["training"] == {
        "num_steps": 1000, "learning_rate": 1e-3, "betas": [0.9, 0.95], "compile": False
    }  # fmt: skip
    assert "# validation is not set" in to_toml(settings)
    assert load_settings(Everything, written) == settings


@given(
    train=st.text(),
    learning_rate=st.floats(allow_nan=False, allow_infinity=False),
    num_steps=st.integers(1, 2**62),
    limit=st.one_of(st.integers(-(2**62), 2**62), st.text()),
    position=st.sampled_from([None, Position(), Position("learned", 1.5)]),
)
def test_toml_round_trip(
    train: str, learning_rate: float, num_steps: int, limit: int | str, position
) -> None:
    settings = Everything(
        Data(train, limit=limit), Training(num_steps=num_steps, learning_rate=learning_rate), position
    )
    assert load_settings(Everything, tomllib.loads(to_toml(settings))) == settings


def test_difference_names_dotted_keys() -> None:
    settings = load_settings(Everything, BASE)
    other = replace(settings, training=replace(settings.training, num_steps=5), position=Position())
    assert difference(settings, settings) == {}
    assert difference(settings, other) == {
        "training.num_steps": (1000, 5),
        "position.kind": (None, "rotary"),
        "position.base": (None, 10000.0),
    }
    assert difference(to_tree(settings), tomllib.loads(to_toml(settings))) == {}


def test_flatten_and_merge_leave_their_arguments_alone() -> None:
    under = {"a": {"b": 1, "c": 2}}
    assert merge(under, {"a": {"b": 3}, "d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}
    assert under == {"a": {"b": 1, "c": 2}}
    assert flatten({"a": {"b": 1, "c": {"d": (2, Path("x"))}}}) == {"a.b": 1, "a.c.d": [2, "x"]}


def test_two_spellings_of_a_path_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    one = {"data": {"train": "a.txt", "field": "a.txt"}}
    for spelling in ("./a.txt", str(tmp_path / "a.txt"), "link/a.txt", "x/../a.txt"):
        other = {"data": {"train": spelling, "field": "a.txt"}}
        assert difference(one, other) == {"data.train": ("a.txt", spelling)}
        assert difference(one, other, paths=["data.train"]) == {}
    assert difference(one, {"data": {"field": "a.txt"}}, paths=["data.train"]) == {
        "data.train": ("a.txt", None)
    }
    assert difference(one, {"data": {"train": "b.txt", "field": "./a.txt"}}, paths=["data.train"]).keys() == {
        *("data.train", "data.field")
    }


def test_a_change_in_words() -> None:
    assert change_text(None, 3) == "was not set, now 3"
    assert change_text("a", None) == "was 'a', now not set"
