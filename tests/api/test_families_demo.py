"""The demo of the kinds: networks of comparable sizes, and budgets that are too short."""

from dataclasses import replace
from pathlib import Path

import pytest

from seedbed.api.families_demo import KINDS, NUM_TOKENS, families_demo
from seedbed.api.side_by_side import lstm_width
from seedbed.base.errors import ConfigError
from seedbed.models.network import family, parameter_count
from seedbed.runs.settings import recipe


def test_widths_are_the_recipe_s_and_the_lstm_s_is_nearest_to_gpt2_in_parameters() -> None:
    widths = {name: kind.d_model for name, kind in KINDS.items()}
    lstm, gpt2 = widths.pop("lstm"), KINDS["gpt2"]
    assert set(widths.values()) == {recipe("fast")["model"]["d_model"]}
    config = replace(family("gpt2").sized(gpt2.d_model, gpt2.num_layers), vocab_size=NUM_TOKENS)
    target = parameter_count(replace(config, max_positions=128))  # type: ignore[arg-type]
    assert lstm == lstm_width(target, num_layers=KINDS["lstm"].num_layers, vocab_size=NUM_TOKENS)


def test_a_budget_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"59 s is too short for 5 networks; give 60s or more"):
        families_demo(out=tmp_path / "demo", budget_seconds=59)
    assert not (tmp_path / "demo").exists()
