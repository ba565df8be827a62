"""Training examples as people read them: the parts of a row, and the section of a page that shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from seedbed.report.page import Block, Sample, Samples, Section, Span, Text
from seedbed.report.run_files import RunFiles

OPEN, CLOSE, BECOMES = "\u00ab", "\u00bb", "\u2192"
MARKS = {"\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}
SIDES = {"reads": "The encoder reads", "writes": "The decoder writes"}
_MOST_LETTERS = 1_200  # of a side


def parts(tokens: Sequence[Mapping[str, Any]]) -> Iterator[Span]:
    """The parts of a row of tokens, as `seedbed.data.shown` has them: targets are in guillemets.

    A look is read, target, control, sentinel, mask, unknown, wanted, or mark: around what must be predicted.
    """
    shown = (token for token in tokens if token["text"] or token["answer"] is not None)
    for is_target, run in groupby(shown, key=lambda t: t["role"] == "target" and t["answer"] is None):
        if is_target:
            yield Span(OPEN, "mark")
        for (look, answer), alike in groupby(run, key=_look):
            text = visible("".join(token["text"] for token in alike))
            if answer is None:
                yield Span(text, "target" if is_target and look == "read" else look, is_target)
            else:
                yield Span(OPEN, "mark")
                yield Span(text, look)
                yield Span(BECOMES, "mark")
                yield Span(visible(answer[1]), "wanted", is_target=True)
                yield Span(CLOSE, "mark")
        if is_target:
            yield Span(CLOSE, "mark")


def _look(token: Mapping[str, Any]) -> tuple[str, tuple[int, str] | None]:
    """What neighbours have in common that are one part; a place with an answer is one of its own."""
    style = "read" if token["kind"] == "text" else str(token["kind"])
    return style, None if token["answer"] is None else (id(token), str(token["answer"]))


def visible(text: str) -> str:
    """Marks for line ends and tabs, and U+FFFD for what cannot be shown."""
    return "".join(
        MARKS.get(c, c if c.isprintable() or c in "\u200c\u200d" else " " if c.isspace() else "\ufffd")
        for c in text
    )


def counts(example: Mapping[str, Any]) -> str:
    """How much of an example is read and how much must be predicted."""
    read, targets = example["num_tokens"], example["num_targets"]
    if example.get("label") is not None:
        return f"{read:,} tokens read, one label to be predicted"
    share = f" ({targets / read:.0%})" if read else ""
    return f"{read:,} tokens read, {targets:,} to be predicted{share}"


def sides(example: Mapping[str, Any]) -> Iterator[tuple[str | None, Sequence[Mapping[str, Any]]]]:
    """The rows of an example with their names; a network that has one row needs no name for it."""
    filled = {name: example[name] for name in SIDES if example[name]}
    for name, tokens in filled.items():
        yield (SIDES[name] if len(filled) == 2 else None), tokens


def legend(examples: Sequence[Mapping[str, Any]]) -> str:
    """The meaning of the marks that the examples have."""
    tokens = [token for example in examples for _, side in sides(example) for token in side]
    found = {(t["role"] != "read", t["answer"] is not None) for t in tokens}
    said = [f"{OPEN}text{CLOSE} must be predicted"] if (True, False) in found else []
    if (True, True) in found:
        said += [f"{OPEN}a{BECOMES}b{CLOSE} reads a where b must be predicted"]
    names = {"\n": "a line end", "\t": "a tab", "\r": "a carriage return"}
    said += [f"{MARKS[c]} is {name}" for c, name in names.items() if any(c in t["text"] for t in tokens)]
    return "; ".join(said)


def examples_section(runs: Sequence[RunFiles]) -> Section | None:
    """The first examples of the runs, those that several runs share once; None where no run has any."""
    groups: dict[str, list[RunFiles]] = {}
    for run in (run for run in runs if run.examples):
        groups.setdefault(repr(run.examples), []).append(run)
    examples = [example for first, *_ in groups.values() for example in first.examples]
    if not examples:
        return None
    blocks: list[Block] = [Text(f"The first training examples, in their order. {legend(examples)}", "muted")]
    for group in groups.values():
        samples = [_sample(number, example) for number, example in enumerate(group[0].examples, 1)]
        blocks.append(Samples([run.label for run in group] if len(runs) > 1 else [], samples, stacked=True))
    return Section("examples", "Training examples", blocks)


def _sample(number: int, example: Mapping[str, Any]) -> Sample:
    rows = [(name or "", list(_spans(tokens))) for name, tokens in sides(example)]
    if (label := example.get("label")) is not None:
        rows.append(("", [Span("Label: "), Span(str(label), "wanted", is_target=True)]))
    return Sample(f"Example {number}: {counts(example)}", rows)


def _spans(tokens: Sequence[Mapping[str, Any]]) -> Iterator[Span]:
    """The parts of a row, cut where it is long."""
    left = _MOST_LETTERS
    for one in parts(tokens):
        yield replace(one, text=one.text[:left])
        left -= len(one.text)
        if left <= 0:
            yield Span("\u2026")
            return
