"""Completions, settings and commands, as the page tells them."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seedbed.report import words
from seedbed.report.run_files import RunFiles, read_run
from seedbed.report.words import Sample, read_samples


def test_samples_come_in_the_order_of_their_settings() -> None:
    rows = [
        {"run": "a", "temperature": 0.8, "top_k": None, "top_p": 0.9, "text": "p"},
        {"run": "a", "temperature": 0.8, "top_k": 40, "top_p": None, "text": "k"},
        {"run": "a", "temperature": 1.2, "text": "hot"},
        {"run": "a", "temperature": 0, "text": "cold"},
        {"run": "a", "temperature": 1, "text": None},
        "no row",
    ]
    assert [sample.text for sample in read_samples({"rows": rows})] == ["cold", "hot", "k", "p"]
    assert read_samples({"rows": "none"}) == read_samples({}) == []


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (Sample("a", 0.0, None, None, ""), r"temperature 0 .*greedy"),
        (Sample("a", 0.8, 40.0, 0.95, ""), r"temperature 0\.8, top-k 40, top-p 0\.95"),
        (Sample("a", None, None, None, ""), r"[^\d]*\bnot\b[^\d]*"),
    ],
)
def test_settings_in_words(sample: Sample, text: str) -> None:
    assert re.match(text, sample.setting)
    assert ("greedy" in sample.setting) == (sample.temperature == 0)


def test_repetition_counts_groups_of_three_words() -> None:
    # a b c, b c a, c a b, a b c: four groups, the last of which came before.
    assert Sample("a", 1.0, None, None, "a b c\na b c").repetition == (1, 4)
    assert Sample("a", 1.0, None, None, "a b").repetition == (0, 0)


@pytest.fixture
def runs(tmp_path: Path, folders: ModuleType) -> list[RunFiles]:
    root = folders.write_demo(tmp_path / "demo")
    return [read_run(root / "runs" / "transformer", "Transformer"), read_run(root / "runs" / "lstm", "LSTM")]


def test_completions_stand_side_by_side(
    runs: list[RunFiles], folders: ModuleType, read_page: Callable[[str], Any]
) -> None:
    page = read_page(words.completions(folders.samples(), runs))
    # Of the 15 groups of three words of the first text, the 8 from the seventh to the fourteenth came before.
    (heading,) = page.texts["h2"]
    assert re.search(r"\b53%.*temperature 0\b[^.]*\b0%.*temperature 1\.2\b", heading)
    drawn = [text.lower().partition(" (")[0] for text in page.texts["h3"]]
    assert drawn == [
        "temperature 0",
        "temperature 0.8",
        "temperature 1.2",
        "temperature 0.8, top-k 40",
        "temperature 0.8, top-p 0.9",
    ]
    assert page.texts["h4"] == ["Transformer", "LSTM"] * 5
    texts = [text for text in page.texts["p"] if text.startswith("Return the")]
    heats = (0.0, 0.8, 1.2, 0.8, 0.8)
    assert texts == ["Return the" + folders.TEXTS[heat] for heat in heats for _ in range(2)]
    assert len([text for text in page.texts["p"] if "% of" in text]) == len(texts)
    assert page.texts["blockquote"] == ["Return the"]


def test_a_long_prompt_stands_whole_above_and_with_its_end_before_each_text(
    runs: list[RunFiles], read_page: Callable[[str], Any]
) -> None:
    prompt = "One two three. " * 9 + "The last words of it"
    rows = [{"run": "lstm", "temperature": 0, "text": " are new"}]
    page = read_page(words.completions({"prompt": prompt, "rows": rows}, runs))
    assert page.texts["blockquote"] == [prompt]
    (text,) = [text for text in page.texts["p"] if text.endswith(" are new")]
    cut, end = text[0], text[1:].removesuffix(" are new")
    assert cut == "\u2026" and len("last words of it") < len(end) < len(prompt) and prompt.endswith(end)


def test_empty_lines_are_counted_not_drawn(runs: list[RunFiles], read_page: Callable[[str], Any]) -> None:
    rows = [
        {"run": "lstm", "temperature": 1, "text": text}
        for text in ("a\n\nb" + "\n" * 38 + "c", "\n" * 40, "")
    ]
    page = read_page(words.completions({"rows": rows}, runs))
    about, text, repeats, white, empty = page.texts["p"]
    assert "white space" in about
    assert re.fullmatch(r"a\n\nb\n\[37 [^\n]+\]\nc", text)
    assert re.search(r"\b0%", repeats) and "40 characters" in white and "nothing" in empty


def test_settings_that_differ_come_first(runs: list[RunFiles], read_page: Callable[[str], Any]) -> None:
    page = read_page(words.settings(runs))
    (heading,) = page.texts["h2"]
    assert re.search(r"\b2 of 10 settings", heading)
    assert page.texts["table"][0].count("lstm") == 1 and "num_steps" not in page.texts["table"][0]
    assert "10 settings" in page.texts["summary"][0] and "training.num_steps" in page.texts["table"][1]
    alone = read_page(words.settings(runs[:1]))
    assert "10 settings" in alone.texts["h2"][0] and "differ" not in alone.texts["h2"][0]


def test_commands_are_what_a_shell_reads(runs: list[RunFiles], read_page: Callable[[str], Any]) -> None:
    samples = {"prompt": "it's a $HOME", "seed": 0, "max_new_tokens": 40}
    samples["rows"] = [{"run": "transformer", "temperature": 0.8, "top_k": 40, "top_p": None, "text": "x"}]
    page = read_page(words.how_made(runs, {"budget_seconds": 150.0}, samples, "my demo"))
    lines = [shlex.split(line) for line in page.texts["code"][0].splitlines()]
    assert lines == [
        ["seedbed", "demo", "--budget", "150s", "--out", "my demo"],
        [
            "seedbed",
            "pretrain",
            "builtin:prose",
            "--settings",
            "my demo/runs/transformer/settings.toml",
            "--out",
            "again/transformer",
        ],
        [
            "seedbed",
            "pretrain",
            "builtin:prose",
            "--settings",
            "my demo/runs/lstm/settings.toml",
            "--out",
            "again/lstm",
        ],
        [
            "seedbed",
            "generate",
            "my demo/runs/transformer",
            "it's a $HOME",
            "--max-new-tokens",
            "40",
            "--seed",
            "0",
            "--temperature",
            "0.8",
            "--top-k",
            "40",
        ],
        ["seedbed", "report", "my demo"],
    ]


def test_a_run_without_settings_has_no_command_of_its_own(
    tmp_path: Path, folders: ModuleType, read_page: Callable[[str], Any]
) -> None:
    folder = folders.write_run(tmp_path / "base", planned=json.loads("{}"))
    (folder / "settings.toml").unlink()
    page = read_page(words.how_made([read_run(folder)], {}, {}, "base"))
    assert page.texts["code"][0] == "seedbed report base"
