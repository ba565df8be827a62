"""The flags of `seedbed generate` and `seedbed chat` are the generation settings."""

from typing import Any

import pytest
from typer.main import get_command

from seedbed.cli.app import app
from seedbed.generation.settings import named_settings

NOT_CHAT = {"logprobs", "num_samples"}


@pytest.mark.parametrize(
    ("verb", "but", "max_new_tokens"),
    [
        ("generate", {"eos_ids"}, 64),
        (
            "chat",
            {"eos_ids", *NOT_CHAT},
            256,
        ),
    ],
)
def test_a_verb_has_a_flag_for_each_setting(verb: str, but: set[str], max_new_tokens: int) -> None:
    command: Any = get_command(app)
    options = {option.name: option for option in command.commands[verb].params}
    assert {name for name, _, _ in named_settings()} - set(options) == but
    for name, setting, default in named_settings():
        if name not in but:
            assert options[name].opts == [f"--{name.replace('_', '-')}"]
            assert options[name].help == setting.meaning
            own = {"max_new_tokens": max_new_tokens, "stop": None, "early_stopping": None}
            assert options[name].default == own.get(name, default), name
