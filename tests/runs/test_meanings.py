"""Every setting of a run has a meaning; the allowed values are those that the settings allow."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seedbed.base.errors import ConfigError, UsageError
from seedbed.base.plugins import PluginPackage
from seedbed.data.objective import OBJECTIVES
from seedbed.data.settings import DataSettings
from seedbed.evaluation.task import TaskSettings
from seedbed.models.adapter import METHODS
from seedbed.runs.meanings import REQUIRED, Meaning, markdown, meanings, selected
from seedbed.runs.network import configure
from seedbed.runs.settings import ModelSettings, RunSettings, TokenizerSettings
from seedbed.text.training import train_tokenizer
from seedbed.training.settings import TrainingSettings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
RENEW = ".venv/bin/seedbed settings --markdown > docs/settings.md"
SCHEMAS: dict[str, Any] = {
    "model": ModelSettings,
    "tokenizer": TokenizerSettings,
    "data": DataSettings,
    "training": TrainingSettings,
    "task": TaskSettings,
}
PLUGINS: dict[str, Any] = {"objective": OBJECTIVES, "peft": METHODS}
KNOWN = meanings()
NUMBERS = [each for each in KNOWN if "number" in each.kind]


def schema_of(each: Meaning) -> Any:
    return SCHEMAS.get(each.table) or PLUGINS[each.table].get(str(each.plugin)).settings_class


def fields() -> Iterator[tuple[str, Any]]:
    """Every field of every table, from the dataclasses themselves: its key and its default."""
    for table in dataclasses.fields(RunSettings):
        for name in [None] if table.name in SCHEMAS else PLUGINS[table.name].names():
            schema = SCHEMAS.get(table.name) or PLUGINS[table.name].get(name).settings_class
            for field in dataclasses.fields(schema):
                default = REQUIRED if field.default is dataclasses.MISSING else field.default
                yield f"{table.name}.{field.name} {name}", default


def test_every_field_is_listed_with_its_default() -> None:
    assert {f"{each.key} {each.plugin}": each.default for each in KNOWN} == dict(fields())


@pytest.mark.parametrize("each", KNOWN, ids=lambda each: f"{each.key} {each.plugin}")
def test_every_field_has_a_meaning(each: Meaning) -> None:
    assert re.fullmatch(r"[A-Z].{8,110}\.", each.meaning), (
        f"{each.key}: write `# meaning [allowed values]` behind the field in {schema_of(each).__module__}"
    )
    assert each.allowed, f"{each.key}: write the allowed values in brackets behind its meaning"
    if "number" in each.kind:
        assert each.allowed != each.kind, f"{each.key}: write the allowed range in brackets"


def make(each: Meaning, value: Any) -> None:
    """What a run makes of a value before it reads a corpus."""
    if each.table == "model":
        settings = ModelSettings(family="gpt2", **{each.name: value})
        configure(settings, vocab_size=300, context_tokens=16)
    elif each.key == "tokenizer.vocab_size":
        train_tokenizer(["a text"], "bpe", vocab_size=value)
    else:
        needed = {"data": {"train": "a.txt"}, "task": {"use_case": "classify"}}.get(each.table, {})
        schema_of(each)(**needed, **{each.name: value})


@pytest.mark.parametrize("each", NUMBERS, ids=lambda each: f"{each.key} {each.plugin}")
def test_a_number_outside_the_allowed_range_is_refused(each: Meaning) -> None:
    least = re.match(r"(above )?([\d.]+)( or more)?", each.allowed)
    most = re.search(r"(?:(below)|at most|to) ([\d.]+)$", each.allowed)
    assert least is not None, each.allowed
    outside = [float(least[2]) - (0 if least[1] else 1)]
    outside += [float(most[2]) + (0 if most[1] else 1)] if most else []
    for value in outside:
        number = int(value) if "whole" in each.kind else value
        if f"or {number:g}" not in each.allowed:
            with pytest.raises((ConfigError, UsageError), match=rf"{each.name}\b"):
                make(each, number)


def test_a_choice_lists_what_is_allowed() -> None:
    allowed = {each.key: each.allowed for each in KNOWN}
    assert allowed["training.schedule"] == "constant, cosine, inverse_sqrt, wsd"
    assert allowed["tokenizer.kind"].startswith("bpe, wordpiece, ")
    families = PluginPackage[Any]("seedbed.models.families", "FAMILY").names()
    assert allowed["model.family"] == ", ".join(families)


def test_a_table_a_plugin_a_key_and_a_name_select() -> None:
    assert {each.table for each in selected("training")} == {"training"}
    assert [each.key for each in selected("training.learning_rate")] == ["training.learning_rate"]
    assert [each.key for each in selected("learning_rate")] == ["training.learning_rate"]
    assert {each.plugin for each in selected("masked")} == {"masked"}
    assert {each.plugin for each in selected("objective.rate")} > {"masked", "denoising"}
    assert {each.key for each in selected("lora")} > {"peft.method", "peft.rank", "peft.targets"}
    assert selected("peft.rank")[0].default == METHODS.get("lora").settings_class().rank
    assert selected("task.use_case")[0].default == REQUIRED
    assert selected(None) == KNOWN


@pytest.mark.parametrize("name", ["training.lerning_rate", "lerning_rate"])
def test_an_unknown_name_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match=r"did you mean '(training\.)?learning_rate'\? tables: model, "):
        selected(name)


def test_the_page_in_docs_is_made_from_the_same_source() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), f"renew docs/settings.md: {RENEW}"
