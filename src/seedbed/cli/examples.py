"""Training examples and the tokens of a text, as a terminal shows them, or a pipe without colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from seedbed.cli.console import console, print_json
from seedbed.data.shown import Shown, ShownToken
from seedbed.report.examples import counts, legend, parts, sides, visible
from seedbed.report.page import Span

# Colour never carries a meaning alone: there is always an underline, a mark or a name beside it.
STYLES = {
    "read": "",
    "target": "green underline",
    "wanted": "bold green underline",
    "control": "dim",
    "sentinel": "yellow",
    "mask": "yellow",
    "unknown": "red",
    "mark": "dim",
}
TINTS = ("#17201b on #cfe8da", "#17201b on #dfe3f8")  # 13 to 1 and more: readable on any background
LEARNED_CHARACTERS = 600  # of an example before a training
BETWEEN = "\u2502"  # separates tokens where there is no colour


def show_examples(examples: Sequence[Shown], *, json: bool) -> None:
    """Print examples as JSON, or wrapped to the terminal with a legend of their marks."""
    rows: list[Mapping[str, Any]] = [example.to_dict() for example in examples]
    if json:
        print_json({"examples": rows})
        return
    out = console()
    for number, example in enumerate(rows, 1):
        heading = Text.assemble((f"Example {number}", "bold"), ": ") if len(rows) > 1 else Text()
        _print(out, heading + Text(counts(example)), indent=0)
        for name, tokens in sides(example):
            if name:
                _print(out, Text(name, style="dim"))
            _print(out, _line(parts(tokens)), indent=4 if name else 2)
        if example["label"] is not None:
            _print(out, Text.assemble("label ", (example["label"], STYLES["wanted"])))
        out.print()
    if marks := legend(rows):
        _print(out, Text(marks, style="dim"), indent=0)


def show_learned(example: Mapping[str, Any]) -> None:
    """Print one example before a training on stderr, the end of a long one: what is learned from it."""
    out = console(stderr=True)
    _print(out, Text.assemble(("The first example", "bold"), ": ", counts(example)), indent=0)
    for name, tokens in sides(example):
        line = _line(parts(tokens))
        if len(line) > LEARNED_CHARACTERS:
            line = Text("... ") + line[-LEARNED_CHARACTERS:]
        if name:
            _print(out, Text(name, style="dim"))
        _print(out, line, indent=2)
    if example["label"] is not None:
        _print(out, Text.assemble("  label ", (example["label"], STYLES["wanted"])), indent=0)
    if marks := legend([example]):
        _print(out, Text(marks, style="dim"), indent=0)


def print_tokens(tokens: Sequence[ShownToken]) -> None:
    """Print the tokens of a text: in two alternating colours, or with bars between them without colour."""
    out = console()
    tinted = out.is_terminal and not out.no_color
    line = Text()
    shown = [token for token in tokens if token.text]
    for at, token in enumerate(shown):
        plain = visible(token.text) + (f" ({token.kind})" if token.kind != "text" else "")
        known = token.kind not in ("unknown", "control")
        style = (TINTS[at % 2] if known else f"{STYLES['unknown']} bold") if tinted else ""
        line.append(plain, style=style)
        if at + 1 < len(shown) and not tinted:
            line.append(BETWEEN)
    _print(out, line, indent=0)


def _line(found: Iterable[Span]) -> Text:
    line = Text()
    for part in found:
        style = STYLES[part.look]
        if part.is_target and part.look not in ("target", "wanted"):  # a sentinel that is a target
            style += " underline"
        line.append(part.text, style=style)
    return line


def _print(out: Console, text: Text, *, indent: int = 2) -> None:
    """Print a text wrapped between words, each line behind an indent."""
    for line in text.wrap(out, max(8, out.width - indent)):
        line.rstrip()
        out.print(Text(" " * indent) + line, soft_wrap=True)
