"""One network of each kind side by side: what each is, what it reads, and how well it does four tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from seedbed.report.page import (
    Block,
    Cell,
    Column,
    Figures,
    Name,
    Sample,
    Samples,
    Section,
    Span,
    Table,
    Text,
    results_table,
)
from seedbed.report.tracks import track_figure
from seedbed.report.units import PERCENT, Measured, Unit, count_unit, number

COMMAND = "seedbed demo --families"
# Key, name, how it is measured; shares but for the bits, of which fewer are better.
TASKS = (
    (
        "cloze",
        "One hidden token",
        "one token of 64 is hidden; right if it is the most likely of the vocabulary",
    ),
    (
        "span",
        "Three hidden tokens",
        "three in a row; each with those before it known, but for a masked network",
    ),
    ("words", "Words labelled", "a linear probe on frozen features predicts the role of an identifier"),
    ("sentences", "Texts labelled", "a linear probe on mean features predicts what a docstring documents"),
    (
        "bits_per_byte",
        "Next token",
        "held-out text, for networks that write from left to right; fewer is better",
    ),
)
_FACTS = {"architecture": "Architecture", "objective": "Objective", "sees": "Sees", "good_at": "Good at"}


class Model(NamedTuple):
    """A network of `families.json`; `facts` are its architecture, objective, sees and good_at."""

    name: Name
    facts: Mapping[str, str]
    parameters: float | None
    scores: Mapping[str, Measured]
    example: Mapping[str, str]


def read_models(found: Mapping[str, Any], names: Mapping[str, Name]) -> list[Model]:
    """The networks of `families.json`, damaged ones left out; `names` are those of the runs."""
    listed = found.get("models")
    models = []
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, Mapping) and isinstance(one.get("title"), str):
            parts = (one.get("scores"), one.get("example"))
            scores, example = (part if isinstance(part, Mapping) else {} for part in parts)
            models.append(
                Model(
                    names.get(str(one.get("run")), Name(one["title"])),
                    {key: str(one.get(key, "")) for key in _FACTS},
                    number(one.get("parameters")),
                    {key: score for key, *_ in TASKS if (score := Measured.read(scores.get(key)))},
                    {key: str(example.get(key, "")) for key in ("task", "given", "answer")},
                )
            )
    return models


def finding(found: Mapping[str, Any]) -> str:
    """Whether the encoder's features label words better than the decoder's, by their intervals.

    Empty where that was not measured.
    """
    of_kind: dict[str, Measured] = {}
    for model in read_models(found, {}):
        if "words" in model.scores:
            of_kind.setdefault(model.facts["architecture"], model.scores["words"])
    encoder, decoder = of_kind.get("encoder-only"), of_kind.get("decoder-only")
    if encoder is None or decoder is None:
        return ""
    said = f"{encoder.value:.1%} right against the decoder's {decoder.value:.1%}"
    if encoder.interval and decoder.interval and encoder.interval[0] > decoder.interval[1]:
        return f"The encoder's features label words better: {said}"
    if encoder.interval and decoder.interval and encoder.interval[1] < decoder.interval[0]:
        return f"At this size the encoder's features do not label words better: {said}"
    return f"At this size encoder and decoder do not certainly differ on words: {said}"


def tables(models: list[Model]) -> tuple[Table, Table]:
    """What the networks are, and what was measured."""
    names: list[Cell] = [model.name for model in models]
    sizes = [model.parameters for model in models]
    unit = count_unit(sizes, "parameters")
    facts: list[list[Cell]] = [[m.name, *m.facts.values(), unit.text(m.parameters)] for m in models]
    scores = {key: [model.scores.get(key) for model in models] for key, *_ in TASKS}
    columns = [Column(name, scores[key], PERCENT, "high") for key, name, _ in TASKS[:-1]]
    columns.append(Column(TASKS[-1][1], scores[TASKS[-1][0]], Unit("bits/byte", decimals=3), "low"))
    kinds = Table("What the networks are", ["Network", *_FACTS.values(), f"Size\n{unit.name}"], facts, 5)
    return kinds, results_table("What the networks do", "Network", names, columns)


def families_section(found: Mapping[str, Any], names: Mapping[str, Name]) -> Section | None:
    """The table of the kinds, what was measured with pictures of it, and an example of each network."""
    models = read_models(found, names)
    if not models:
        return None
    how = " ".join(f"{name}: {said}." for _, name, said in TASKS)
    note = (
        "Percent right on held-out text, \u00b1 half of the 95% interval; best in bold. All networks were "
        f"trained for the same number of steps on the same text. {how}"
    )
    shown = [model.name for model in models]
    drawn = []
    for key, title, _ in TASKS[:-1]:
        scores = [model.scores.get(key) for model in models]
        unit = Unit("% right", 0.01, 1)
        drawn.append(
            track_figure(f"families-{key}", title, shown, scores, unit, references=_baselines(found, key))
        )
    samples = []
    for model in models:
        task, given, answer = (model.example[key] for key in ("task", "given", "answer"))
        rows = [(f"Task: {task}", [Span(given, "code")]), ("Answer", [Span(answer, "code")])]
        samples += [Sample(model.name, rows)] if answer else []
    blocks: list[Block] = [*tables(models), Text(note, "muted", ("families.json", COMMAND)), Figures(drawn)]
    heading = finding(found) or "One network of each kind"
    return Section("families", heading, [*blocks, Samples(["What each answers"], samples)])


def _baselines(found: Mapping[str, Any], key: str) -> list[tuple[str, float]]:
    """What needs no network: the most frequent label, a probe on embeddings alone."""
    every = found.get("baselines")
    mine = every.get(key) if isinstance(every, Mapping) else None
    known = {str(name): number(value) for name, value in mine.items()} if isinstance(mine, Mapping) else {}
    return [(name, value) for name, value in known.items() if value is not None]
