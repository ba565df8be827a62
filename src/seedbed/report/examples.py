"""Training examples as people read them: the parts of a row, and the section of a page that shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from seedbed.report.markup import Child, Markup, element
from seedbed.report.page import paragraph, section, swatch
from seedbed.report.run_files import RunFiles

OPEN, CLOSE, BECOMES = "\u00ab", "\u00bb", "\u2192"
MARKS = {"\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}
SIDES = {"reads": "The encoder reads", "writes": "The decoder writes"}
_MOST_LETTERS = 1_200  # of a side


class Part(NamedTuple):
    """A stretch of a row that looks alike; `style` is read, target, control, sentinel, mask, unknown, wanted.

    A mark (`is_mark`) is no text: it stands around what must be predicted.
    """

    text: str
    style: str
    is_target: bool = False
    is_mark: bool = False


def parts(pieces: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    """The parts of a row of pieces, as `seedbed.data.shown` tells them: targets stand in guillemets."""
    shown = (piece for piece in pieces if piece["text"] or piece["answer"] is not None)
    for is_target, run in groupby(shown, key=lambda p: p["role"] == "target" and p["answer"] is None):
        if is_target:
            yield Part(OPEN, "target", is_target=True, is_mark=True)
        for (style, answer), alike in groupby(run, key=_look):
            text = visible("".join(piece["text"] for piece in alike))
            if answer is None:
                yield Part(text, "target" if is_target and style == "read" else style, is_target=is_target)
            else:
                yield from _answered(text, style, answer[1])
        if is_target:
            yield Part(CLOSE, "target", is_target=True, is_mark=True)


def _look(piece: Mapping[str, Any]) -> tuple[str, tuple[int, str] | None]:
    """What neighbours have in common that are one part; a place with an answer is one of its own."""
    style = "read" if piece["kind"] == "text" else str(piece["kind"])
    return style, None if piece["answer"] is None else (id(piece), str(piece["answer"]))


def _answered(text: str, style: str, answer: str) -> Iterator[Part]:
    """What stands in a place, and what must be predicted there."""
    yield Part(OPEN, "target", is_target=True, is_mark=True)
    yield Part(text, style)
    yield Part(BECOMES, "target", is_mark=True)
    yield Part(visible(answer), "wanted", is_target=True)
    yield Part(CLOSE, "target", is_target=True, is_mark=True)


def visible(text: str) -> str:
    """Marks for line ends and tabs, and U+FFFD for what nothing can show."""
    return "".join(
        MARKS.get(c, c if c.isprintable() or c in "\u200c\u200d" else " " if c.isspace() else "\ufffd")
        for c in text
    )


def counts(example: Mapping[str, Any]) -> str:
    """How much of an example is read and how much must be predicted."""
    read, targets = example["num_tokens"], example["num_targets"]
    share = f" ({targets / read:.0%})" if read else ""
    return f"{read:,} tokens read, {targets:,} to be predicted{share}"


def sides(example: Mapping[str, Any]) -> Iterator[tuple[str | None, Sequence[Mapping[str, Any]]]]:
    """The rows of an example with what each is; a network that has one row needs no name for it."""
    filled = {name: example[name] for name in SIDES if example[name]}
    for name, pieces in filled.items():
        yield (SIDES[name] if len(filled) == 2 else None), pieces


def legend(examples: Sequence[Mapping[str, Any]]) -> str:
    """What the marks mean that the examples have."""
    pieces = [piece for example in examples for _, side in sides(example) for piece in side]
    told = {(p["role"] != "read", p["answer"] is not None) for p in pieces}
    said = [f"{OPEN}text{CLOSE} must be predicted"] if (True, False) in told else []
    if (True, True) in told:
        said += [f"{OPEN}a{BECOMES}b{CLOSE} reads a where b must be predicted"]
    names = {"\n": "a line end", "\t": "a tab", "\r": "a carriage return"}
    said += [f"{MARKS[c]} is {name}" for c, name in names.items() if any(c in p["text"] for p in pieces)]
    return "; ".join(said)


def example_sections(runs: Sequence[RunFiles]) -> Markup | None:
    """The first examples of the runs, those that several runs share once; None where no run has any."""
    blocks: list[Child] = []
    told: list[Any] = []
    for run in runs:
        if not run.examples or run.examples in told:
            continue
        told.append(run.examples)
        alike = [(i, other) for i, other in enumerate(runs) if other.examples == run.examples]
        names = [element("span", swatch(i, other.title), class_="name") for i, other in alike]
        blocks.append(element("h3", *names) if len(runs) > 1 else None)
        blocks += [_example(number, example) for number, example in enumerate(run.examples, 1)]
    if not told:
        return None
    examples = [example for each in told for example in each]
    return section(
        "examples",
        _finding(examples) if len(told) == 1 else "What the networks read and must predict",
        paragraph(
            f"The first {max(map(len, told))} training examples, as the run dealt them. {legend(examples)}.",
            class_="muted",
        ),
        *blocks,
    )


def _finding(examples: Sequence[Mapping[str, Any]]) -> str:
    read, targets = (sum(example[key] for example in examples) for key in ("num_tokens", "num_targets"))
    return f"{targets / max(1, read) * 100:.0f} tokens are predicted for every 100 that are read"


def _example(number: int, example: Mapping[str, Any]) -> Markup:
    rows: list[Child] = []
    for name, pieces in sides(example):
        rows += [element("h5", name) if name else None, element("p", *_row(pieces), class_="text")]
    label = example.get("label")
    return element(
        "div",
        element("h4", f"Example {number}: {counts(example)}"),
        *rows,
        paragraph("Label: ", element("ins", str(label)), class_="text") if label is not None else None,
        class_="example",
    )


def _row(pieces: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    """The parts of a row, cut where it is long."""
    room = _MOST_LETTERS
    for part in parts(pieces):
        look = f"{'mark ' if part.is_mark else ''}{part.style}"
        tag = "ins" if part.is_target and not part.is_mark else "span"
        yield element(tag, part.text[:room], class_=look)
        room -= len(part.text)
        if room <= 0:
            yield element("span", "\u2026", class_="muted")
            return
