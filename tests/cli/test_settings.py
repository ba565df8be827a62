"""`seedbed settings`: a list that is readable at 60 columns, JSON, hints."""

from collections.abc import Callable

import pytest
from tests.cli.conftest import Said

Command = Callable[..., Said]


def test_the_list_is_readable_at_60_columns(seedbed: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = seedbed("settings").out.splitlines()
    assert max(map(len, lines)) <= 60
    at = lines.index("training.learning_rate = 0.001")
    assert lines[at + 1].startswith("    Highest learning rate")
    assert {"[training]", "[objective] of masked", "data.train (required)", "model.base (not set)"} < {*lines}


def test_json_has_default_kind_and_allowed_values(seedbed: Command) -> None:
    (found,) = seedbed("settings", "training.warmup_steps", "--json").json["settings"]
    assert found["key"] == "training.warmup_steps" and found["default"] is None
    assert (found["kind"], found["allowed"]) == ("a whole number", "0 or more")
    assert len(seedbed("settings", "--json").json["settings"]) > 60


def test_a_table_and_a_wrong_name(seedbed: Command) -> None:
    assert "objective" not in seedbed("settings", "data").out
    said = seedbed("settings", "training.lerning_rate")
    assert said.code == 2 and "did you mean 'training.learning_rate'?" in said.err
