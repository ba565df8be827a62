"""Completions side by side, with what they repeat, and the commands that make them again."""

import re
import shlex
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from seedbed.report.completions import (
    Completion,
    completions_section,
    generate_commands,
    read_completions,
)
from seedbed.report.page import Name, Page

NAMES = {"transformer": Name("Transformer", 0), "lstm": Name("LSTM", 1)}


@pytest.fixture
def shown(read_page: Callable[[str], Any]) -> Callable[..., Any]:
    """The section of completions as a reader sees it."""

    def show(found: dict[str, Any]) -> Any:
        return read_page(Page("a", "b", [completions_section(found, NAMES)]).html())

    return show


def test_completions_come_in_the_order_of_their_settings() -> None:
    rows = [
        {"run": "a", "temperature": 0.8, "top_k": None, "top_p": 0.9, "text": "p"},
        {"run": "a", "temperature": 0.8, "top_k": 40, "top_p": None, "text": "k"},
        {"run": "a", "temperature": 1.2, "text": "hot"},
        {"run": "a", "temperature": 0, "text": "cold"},
        {"run": "a", "temperature": 1, "text": None},
        "no row",
    ]
    assert [one.text for one in read_completions({"rows": rows})] == ["cold", "hot", "k", "p"]
    assert read_completions({"rows": "none"}) == read_completions({}) == []


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (Completion("a", 0.0, None, None, ""), r"Temperature 0 .*greedy"),
        (Completion("a", 0.8, 40.0, 0.95, ""), r"Temperature 0\.8, top-k 40, top-p 0\.95"),
        (Completion("a", None, None, None, ""), r"[^\d]*\bnot\b[^\d]*"),
    ],
)
def test_settings_in_words(sample: Completion, text: str) -> None:
    assert re.match(text, sample.setting)
    assert ("greedy" in sample.setting) == (sample.temperature == 0)


def test_repetition_counts_groups_of_three_words() -> None:
    # a b c, b c a, c a b, a b c: four groups, the last of which came before.
    assert Completion("a", 1.0, None, None, "a b c\na b c").repetition == (1, 4)
    assert Completion("a", 1.0, None, None, "a b").repetition == (0, 0)


def test_completions_stand_side_by_side(shown: Callable[..., Any], folders: ModuleType) -> None:
    page = shown(folders.samples())
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
    assert page.texts["blockquote"] == ["Return the"]


def test_a_long_prompt_is_whole_above_and_its_end_before_each_text(
    shown: Callable[..., Any],
) -> None:
    prompt = "One two three. " * 9 + "The last words of it"
    rows = [{"run": "lstm", "temperature": 0, "text": " are new"}]
    page = shown({"prompt": prompt, "rows": rows})
    assert page.texts["blockquote"] == [prompt]
    (text,) = [text for text in page.texts["p"] if text.endswith(" are new")]
    cut, end = text[0], text[1:].removesuffix(" are new")
    assert cut == "\u2026" and len("last words of it") < len(end) < len(prompt) and prompt.endswith(end)


def test_empty_lines_are_counted_not_drawn(shown: Callable[..., Any]) -> None:
    rows = [
        {"run": "lstm", "temperature": 1, "text": text}
        for text in ("a\n\nb" + "\n" * 38 + "c", "\n" * 40, "")
    ]
    page = shown({"rows": rows})
    _, text, white, empty = page.texts["p"]
    assert re.fullmatch(r"a\n\nb\n\[37 [^\n]+\]\nc", text)
    assert "40 characters of white space" in white and "0 characters" in empty


def test_commands_are_what_a_shell_reads() -> None:
    samples: dict[str, Any] = {"prompt": "it's a $HOME", "seed": 0, "max_new_tokens": 40}
    samples["rows"] = [{"run": "transformer", "temperature": 0.8, "top_k": 40, "top_p": None, "text": "x"}]
    samples["rows"] += [{"run": "lstm", "temperature": 0.1, "text": "y"}]
    (line,) = generate_commands(samples, "transformer", "my demo/runs/transformer")
    flags = ["--max-new-tokens", "40", "--seed", "0", "--temperature", "0.8", "--top-k", "40"]
    assert shlex.split(line) == ["seedbed", "generate", "my demo/runs/transformer", "it's a $HOME", *flags]
    assert generate_commands({"rows": samples["rows"]}, "transformer", "a") == []
