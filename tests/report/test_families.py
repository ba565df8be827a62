"""The families' section: the file's own numbers, an honest heading, and losses that are not compared."""

import copy
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seedbed.report import findings
from seedbed.report.families import families_section, finding, scores_table
from seedbed.report.page import Page
from seedbed.report.run_files import NATS, read_run
from seedbed.report.run_report import render


def model(run: str, title: str, architecture: str, words: float, **scores: Any) -> dict[str, Any]:
    spread = {"value": words, "interval": [words - 0.02, words + 0.02]}
    return {
        "run": run,
        "title": title,
        "architecture": architecture,
        "objective": "masked" if run == "bert" else "causal",
        "sees": "all <of> it",
        "good_at": "labels",
        "scores": {"words": spread} | scores,
        "given": "a <b> ___\n  c",
        "answer": "a <b> x\n  c",
    }


FOUND: dict[str, Any] = {
    "models": [
        model("bert", "BERT", "encoder-only", 0.71, cloze={"value": 0.4, "interval": [0.35, 0.45]}),
        model("gpt2", "GPT-2", "decoder-only", 0.6, cloze={"value": 0.3, "interval": None}),
        model("lstm", "LSTM", "recurrent", 0.5),
    ],
    "baselines": [
        {"title": "Most frequent label", "scores": {"words": {"value": 0.31, "interval": [0.3, 0.33]}}}
    ],
}


def with_words(encoder: float, decoder: float) -> dict[str, Any]:
    found = copy.deepcopy(FOUND)
    for one, value in zip(found["models"], (encoder, decoder), strict=False):
        one["scores"]["words"] = {"value": value, "interval": [value - 0.02, value + 0.02]}
    return found


@pytest.mark.parametrize(
    ("encoder", "decoder", "words"),
    [
        (0.71, 0.60, "encoder's features label words better"),
        (0.60, 0.71, "encoder's features do not label words better"),
        (0.61, 0.60, "do not certainly differ"),
    ],
)
def test_the_heading_is_what_was_found(encoder: float, decoder: float, words: str) -> None:
    heading = finding(with_words(encoder, decoder))
    assert re.search(rf"{words}.*\b{encoder:.1%}.*decoder.*\b{decoder:.1%}", heading)


def test_the_numbers_are_those_of_the_file_and_the_best_is_bold() -> None:
    page = Page("a", "b", [families_section(FOUND, {})]).html()
    plain = re.sub(r'<span class="muted">( ±[^<]*)</span>', r"\1", page)
    assert "<b>71.0</b> ±2.0" in plain and "60.0 ±2.0" in plain and "<b>40.0</b> ±5.0" in plain
    assert "Dashed: Most frequent label 31.0" in page and "71.0 (69.0 to 73.0)" in page
    assert "a &lt;b&gt; x" in page and "all &lt;of&gt; it" in page and "<of>" not in page


def test_a_terminal_gets_the_same() -> None:
    columns, found = scores_table(FOUND, {}).plain()
    dash = "\u2013"
    assert columns == ["Network", "One hidden token %", "Words labelled %", "Texts labelled %"]
    assert found == [
        ["BERT", "40.0±5.0*", "71.0±2.0*", dash],
        ["GPT-2", "30.0", "60.0±2.0", dash],
        ["LSTM", dash, "50.0±2.0", dash],
        ["Most frequent label", dash, "31.0±1.5", dash],
    ]


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"models": 3},
        {"models": [None, {"title": 4}]},
        {"models": [{"title": "A", "scores": [], "example": 2, "parameters": "x"}], "baselines": 7},
        {"models": [{"title": "A", "scores": {"words": {"value": "nan", "interval": [1]}}}]},
        {"models": [{"title": "A", "given": 3}], "baselines": [{"title": 4}, {"title": "B", "scores": 1}, 2]},
        # The form of an earlier version.
        {"models": [{"title": "A", "example": {}}], "baselines": {"words": {"most frequent": 0.3}}},
    ],
)
def test_what_is_damaged_is_left_out(damaged: dict[str, Any]) -> None:
    Page("a", "b", [families_section(damaged, {})]).html()
    _, found = scores_table(damaged, {}).plain()
    assert finding(damaged) == "" and all(set(row[1:]) == {"\u2013"} for row in found)


def test_losses_of_different_objectives_are_not_compared(tmp_path: Path, folders: ModuleType) -> None:
    for name, objective in (("bert", "masked"), ("gpt2", "causal")):
        folder = folders.write_run(tmp_path / "runs" / name)
        settings = folder / "settings.toml"
        text = settings.read_text()
        assert 'name = "causal"' in text
        settings.write_text(text.replace('name = "causal"', f'name = "{objective}"'))
    runs = [read_run(path) for path in sorted((tmp_path / "runs").iterdir())]
    assert not findings.comparable(runs) and findings.comparable(runs[:1])
    ranked = findings.ranked(runs[::-1], NATS)
    assert [(run.title, run.series) for run in ranked] == [("gpt2", 0), ("bert", 1)]
    assert "do not compare" in findings.headline(runs, NATS)
    page = render(tmp_path)
    assert "objectives do not compare" in page and "ahead at equal" not in page
    (tmp_path / "families.json").write_text(json.dumps(FOUND))
    assert re.search(r"<h1>[^<]*features label words better", render(tmp_path))
