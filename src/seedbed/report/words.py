"""The sections of a report that are words: completions, model cards, settings, commands, terms."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seedbed.report.card import card
from seedbed.report.markup import Child, Markup, element
from seedbed.report.page import commands, details, inline_code, paragraph, section, swatch, table
from seedbed.report.run_files import BITS, RunFiles
from seedbed.report.units import number

_MOST_LETTERS = 1_500
_PROMPT_LETTERS = 40  # of the prompt, its end, that stand before each completion
_MOST_COMPLETIONS = 60
_MOST_COMMANDS = 8
_EMPTY_LINES = re.compile(r"\n(?:[^\S\n]*\n){3,}")
_WORDS = 3  # of a group whose repetition is counted


@dataclass(frozen=True)
class Sample:
    """A completion with the generation settings that it was drawn under."""

    run: str
    temperature: float | None
    top_k: float | None
    top_p: float | None
    text: str

    @property
    def setting(self) -> str:
        """The generation settings in words."""
        parts = [] if self.temperature is None else [f"temperature {self.temperature:g}"]
        parts += [] if self.top_k is None else [f"top-k {self.top_k:g}"]
        parts += [] if self.top_p is None else [f"top-p {self.top_p:g}"]
        greedy = " (greedy: always the likeliest token)" if self.temperature == 0 else ""
        return (", ".join(parts) or "settings not written down") + greedy

    @property
    def repetition(self) -> tuple[int, int]:
        """How many groups of three words came before in the text, and how many groups there are."""
        words = self.text.split()
        groups = [tuple(words[start : start + _WORDS]) for start in range(len(words) - _WORDS + 1)]
        return len(groups) - len(set(groups)), len(groups)


def read_samples(found: Mapping[str, Any]) -> list[Sample]:
    """The completions of a samples file in the order of their settings; rows without a text are left out."""
    rows = found.get("rows")
    samples = [
        Sample(
            str(row.get("run", "")),
            number(row.get("temperature")),
            number(row.get("top_k")),
            number(row.get("top_p")),
            row["text"],
        )
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, Mapping) and isinstance(row.get("text"), str)
    ]
    return sorted(samples, key=lambda s: (s.top_p is not None, s.top_k is not None, s.temperature or 0.0))


def completions(found: Mapping[str, Any], runs: Sequence[RunFiles]) -> Markup | None:
    """What each network writes after the same prompt, side by side for each generation setting."""
    samples = read_samples(found)
    if not samples:
        return None
    prompt = str(found.get("prompt") or "")
    places = {run.name: index for index, run in reversed(list(enumerate(runs)))}
    shown = samples[:_MOST_COMPLETIONS]
    shown.sort(key=lambda sample: places.get(sample.run, len(runs)))
    blocks = []
    for setting in dict.fromkeys(sample.setting for sample in samples[:_MOST_COMPLETIONS]):
        cells = [_completion(sample, prompt, runs, places) for sample in shown if sample.setting == setting]
        heading = setting[0].upper() + setting[1:]
        blocks.append(
            element(
                "div", element("h3", heading), element("div", *cells, class_="side-by-side"), class_="setting"
            )
        )
    cut = len(samples) - len(shown)
    return section(
        "completions",
        _completions_finding(samples),
        paragraph("Each network goes on from the same prompt:") if prompt else None,
        element("blockquote", prompt, class_="prompt") if prompt else None,
        paragraph("A text of white space alone has no words, and counts for nothing.", class_="muted")
        if not all(sample.text.strip() for sample in shown)
        else None,
        *blocks,
        paragraph(f"{cut} more completions lie in samples.json.", class_="muted") if cut else None,
    )


def _completion(sample: Sample, prompt: str, runs: Sequence[RunFiles], places: Mapping[str, int]) -> Markup:
    """A network's text behind the end of the prompt, without which its first word may be half a word."""
    index = places.get(sample.run)
    title = runs[index].title if index is not None else sample.run
    text = _EMPTY_LINES.sub(_count_lines, sample.text)
    text = text[:_MOST_LETTERS] + ("\u2026" if len(text) > _MOST_LETTERS else "")
    before = ("\u2026" if len(prompt) > _PROMPT_LETTERS else "") + prompt[-_PROMPT_LETTERS:]
    given = element("span", before, class_="given") if prompt else None
    repeated, groups = sample.repetition
    if not sample.text.strip():
        note = f"{len(sample.text):,} characters of white space" if sample.text else "nothing at all"
    elif groups:
        note = f"{repeated / groups:.0%} of its three-word groups are repeats"
    else:
        note = "too short to count repeats"
    return element(
        "div",
        element("h4", swatch(index, title)),
        element("p", given, text, class_="text") if sample.text.strip() else None,
        element("p", note, class_="muted"),
        class_="completion",
    )


def _count_lines(found: re.Match[str]) -> str:
    """In place of many empty lines, how many they are."""
    return f"\n[{found[0].count(chr(10)) - 1} empty lines]\n"


def _completions_finding(samples: Sequence[Sample]) -> str:
    """How much repetition there is at the lowest and at the highest temperature, nothing else cut off."""
    plain = [sample for sample in samples if sample.top_k is None and sample.top_p is None]
    temperatures = sorted({sample.temperature for sample in plain if sample.temperature is not None})
    if len(temperatures) < 2:
        return (
            "What the networks write"
            if len({sample.run for sample in samples}) > 1
            else "What the network writes"
        )
    shares = []
    for temperature in (temperatures[0], temperatures[-1]):
        counts = [sample.repetition for sample in plain if sample.temperature == temperature]
        groups = sum(total for _, total in counts)
        if not groups:
            return "What the networks write at each temperature"
        shares.append(f"{sum(repeated for repeated, _ in counts) / groups:.0%}")
    low, high = (f"temperature {temperature:g}" for temperature in (temperatures[0], temperatures[-1]))
    return f"{shares[0]} of three-word groups are repeats at {low}, {shares[1]} at {high}"


def cards(runs: Sequence[RunFiles]) -> Markup | None:
    """The model cards; the best network's is open."""
    written = [(index, run) for index, run in enumerate(runs) if run.card.strip()]
    if not written:
        return None
    first = written[0][0]
    parts = [
        details(swatch(index, run.title), card(run.card), unfolded=index == first) for index, run in written
    ]
    return section(
        "cards", "Where each model came from" if len(written) > 1 else "Where the model came from", *parts
    )


def settings(runs: Sequence[RunFiles]) -> Markup | None:
    """What differs between the runs' settings, and all of them to unfold."""
    written = [(index, run) for index, run in enumerate(runs) if run.settings]
    if not written:
        return None
    keys = list(dict.fromkeys(key for _, run in written for key in run.settings))
    header: list[Child] = ["Setting", *(swatch(index, run.title) for index, run in written)]
    rows: dict[str, list[Child]] = {key: [key, *(_value(run, key) for _, run in written)] for key in keys}
    differing = [key for key in keys if len({_value(run, key) for _, run in written}) > 1]
    everything = details(
        f"All {len(keys)} settings", table(header, list(rows.values()), label="All settings", numeric_from=99)
    )
    if len(written) == 1:
        return section("settings", f"{len(keys)} settings, defaults included", everything)
    if not differing:
        return section("settings", f"All {len(keys)} settings are equal", everything)
    unequal = table(header, [rows[key] for key in differing], label="Settings that differ", numeric_from=99)
    return section(
        "settings", f"The networks differ in {len(differing)} of {len(keys)} settings", unequal, everything
    )


def _value(run: RunFiles, key: str) -> str:
    value = run.settings.get(key)
    shown = "\u2013" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shown if len(shown) <= 120 else shown[:119] + "\u2026"


def how_made(
    runs: Sequence[RunFiles], demo: Mapping[str, Any], samples: Mapping[str, Any], name: str
) -> Markup:
    """The commands that make it again, from the files: the runs, the completions, this page.

    `name` is the page's folder; the commands hold in the folder above it.
    """
    budget = number(demo.get("budget_seconds"))
    lines = [f"seedbed demo --budget {budget:g}s --out {shlex.quote(name)}"] if budget else []
    lines += [line for run in runs if (line := _training(run, name))]
    lines += _generating(samples, runs, name)
    return section(
        "commands",
        "Commands that make this again",
        commands([*lines, f"seedbed report {shlex.quote(name)}"]),
        paragraph(
            "They hold in the folder above ",
            inline_code(name),
            "; a training takes every setting from the file that its run wrote down.",
            class_="muted",
        ),
    )


def _place(run: RunFiles, name: str) -> str:
    """A run's folder as seen from above the page's folder."""
    return name if run.name == name else f"{name}/runs/{run.name}"


def _training(run: RunFiles, name: str) -> str | None:
    data = run.settings.get("data.train")
    if not isinstance(data, str):
        return None
    settings = shlex.quote(f"{_place(run, name)}/settings.toml")
    return (
        f"seedbed pretrain {shlex.quote(data)} --settings {settings} --out {shlex.quote(f'again/{run.name}')}"
    )


def _generating(samples: Mapping[str, Any], runs: Sequence[RunFiles], name: str) -> list[str]:
    """One command for each generation setting, with the best network."""
    prompt = samples.get("prompt")
    if not isinstance(prompt, str):
        return []
    common = f"seedbed generate {shlex.quote(_place(runs[0], name))} {shlex.quote(prompt)}"
    for key in ("max_new_tokens", "seed"):
        common += _flag(key, number(samples.get(key)))
    drawn = [sample for sample in read_samples(samples) if sample.run == runs[0].name]
    return [
        common + _flag("temperature", one.temperature) + _flag("top_k", one.top_k) + _flag("top_p", one.top_p)
        for one in drawn[:_MOST_COMMANDS]
    ]


def _flag(key: str, value: float | None) -> str:
    return "" if value is None else f" --{key.replace('_', '-')} {value:g}"


def terms(unit: str, sampled: bool) -> Markup:
    """The words that the page uses, in one sentence each."""
    loss = (
        "the negative base-2 logarithm of the probability that a network gives a text, by its UTF-8 bytes; "
        "it compares networks with different tokenizers, and lower is better"
        if unit == BITS
        else "the negative natural logarithm of the probability of a text, by its tokens; lower is better"
    )
    words = {
        unit: loss,
        "held-out text": "documents that were kept from training, chosen by the hash of their text",
        "planned": "computed before step 1 from the settings and a probe of the machine",
        "peak memory": "the most that the process held, beyond what it held when the run began "
        "(1 MiB: 2\u00b2\u2070 bytes)",
    }
    if sampled:
        words |= {
            "temperature": "divides the logits before sampling: 0 takes the likeliest, above 1 flattens",
            "top-k": "samples among the k likeliest tokens alone",
            "top-p": "samples among the likeliest tokens that together hold the probability p",
        }
    items = [
        part
        for word, meaning in words.items()
        for part in (element("dt", word), element("dd", f"{meaning}."))
    ]
    return section("terms", "Words on this page", element("dl", *items, class_="terms"))


def origin_note(version: str) -> Markup:
    """What the page was made by and from."""
    return element(
        "footer",
        f"seedbed {version} drew this page from the folder's files alone. ",
        inline_code("settings.toml"),
        " holds every setting, ",
        inline_code("metrics.jsonl"),
        " every step.",
    )
