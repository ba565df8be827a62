"""What networks write after the same prompt under several generation settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seedbed.report.page import Block, Name, Sample, Samples, Section, Span, Text
from seedbed.report.units import number, rows

_MOST_LETTERS = 1_500
_PROMPT_LETTERS = 40  # of the end of the prompt, before each completion
_MOST_COMPLETIONS = 60
_EMPTY_LINES = re.compile(r"\n(?:[^\S\n]*\n){3,}")
_WORDS = 3  # of a group whose repetition is counted


class Completion(NamedTuple):
    """A completion with its generation settings."""

    run: str
    temperature: float | None
    top_k: float | None
    top_p: float | None
    text: str

    @property
    def setting(self) -> str:
        """The generation settings in words."""
        found = {"Temperature": self.temperature, "top-k": self.top_k, "top-p": self.top_p}
        parts = [f"{key} {value:g}" for key, value in found.items() if value is not None]
        greedy = " (greedy: always the most likely token)" if self.temperature == 0 else ""
        return (", ".join(parts) or "Settings not written down") + greedy

    @property
    def repetition(self) -> tuple[int, int]:
        """How many groups of three words came before in the text, and how many groups there are."""
        words = self.text.split()
        groups = [tuple(words[start : start + _WORDS]) for start in range(len(words) - _WORDS + 1)]
        return len(groups) - len(set(groups)), len(groups)


def read_completions(found: Mapping[str, Any]) -> list[Completion]:
    """The completions of `samples.json` in the order of their settings; rows without a text are left out."""
    read = [
        Completion(
            str(row.get("run", "")),
            number(row.get("temperature")),
            number(row.get("top_k")),
            number(row.get("top_p")),
            row["text"],
        )
        for row in rows(found, "rows")
        if isinstance(row.get("text"), str)
    ]
    return sorted(read, key=lambda s: (s.top_p is not None, s.top_k is not None, s.temperature or 0.0))


def completions_section(found: Mapping[str, Any], names: Mapping[str, Name]) -> Section | None:
    """The completions side by side for each generation setting; `names` are those of the runs, best first."""
    read = read_completions(found)
    if not read:
        return None
    prompt = str(found.get("prompt") or "")
    shown = sorted(read[:_MOST_COMPLETIONS], key=lambda one: [*names, one.run].index(one.run))
    parts: list[Block] = []
    if prompt:
        parts += [Text("Each network continues the same prompt:"), Text(prompt, "prompt")]
    for setting in dict.fromkeys(one.setting for one in read[:_MOST_COMPLETIONS]):
        alike = [one for one in shown if one.setting == setting]
        samples = [_sample(one, prompt, names.get(one.run, Name(one.run))) for one in alike]
        parts.append(Samples([setting], samples))
    if len(read) > len(shown):
        parts.append(Text(f"{len(read) - len(shown)} more completions are in samples.json.", "muted"))
    return Section("completions", _finding(read), parts)


def _sample(one: Completion, prompt: str, name: Name) -> Sample:
    """A completion after the end of the prompt, without which its first word may be half a word."""
    if not one.text.strip():
        return Sample(name, [("", [Span(f"{len(one.text):,} characters of white space", "mark")])])
    text = _EMPTY_LINES.sub(lambda found: f"\n[{found[0].count(chr(10)) - 1} empty lines]\n", one.text)
    text = text[:_MOST_LETTERS] + ("\u2026" if len(text) > _MOST_LETTERS else "")
    before = ("\u2026" if len(prompt) > _PROMPT_LETTERS else "") + prompt[-_PROMPT_LETTERS:]
    return Sample(name, [("", [Span(before, "given"), Span(text)])])


def _finding(read: Sequence[Completion]) -> str:
    """How much repetition there is at the lowest and at the highest temperature, nothing else cut off."""
    plain = [one for one in read if one.top_k is None and one.top_p is None]
    temperatures = sorted({one.temperature for one in plain if one.temperature is not None})
    found = []
    for temperature in dict.fromkeys(temperatures[:1] + temperatures[-1:]):
        counts = [one.repetition for one in plain if one.temperature == temperature]
        share = sum(repeated for repeated, _ in counts) / max(1, sum(total for _, total in counts))
        found.append(f"{share:.0%} at temperature {temperature:g}")
    return f"Repeated groups of three words: {', '.join(found)}" if found else "What the networks write"


def generate_commands(found: Mapping[str, Any], run: str, folder: str) -> list[str]:
    """One command for each generation setting of a run."""
    prompt = found.get("prompt")
    if not isinstance(prompt, str):
        return []
    shared = _flags(found, ("max_new_tokens", "seed"))
    mine = [one._asdict() for one in read_completions(found) if one.run == run]
    keys = ("temperature", "top_k", "top_p")
    return [shlex.join(["seedbed", "generate", folder, prompt, *shared, *_flags(one, keys)]) for one in mine]


def _flags(found: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    known = {key: value for key in keys if (value := number(found.get(key))) is not None}
    return [text for key, value in known.items() for text in (f"--{key.replace('_', '-')}", f"{value:g}")]
