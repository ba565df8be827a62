"""One network of each kind side by side: what each is, what it reads, and how well it does four tasks."""

from __future__ import annotations

import math
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
from seedbed.report.units import PERCENT, Measured, Unit, count_unit, number, rows, table

COMMAND = "seedbed demo --families"
# Name, how it is measured; shares but for the bits, of which fewer are better.
TASKS = {
    "cloze": ("One hidden token", "of 64; right if it is the most likely of the vocabulary"),
    "span": ("Three hidden tokens", "in a row; each with those before it known, but for a masked network"),
    "words": ("Words labelled", "a linear probe on frozen features predicts the role of an identifier"),
    "sentences": ("Texts labelled", "a linear probe on mean features predicts what a docstring documents"),
    "bits_per_byte": ("Next token", "held-out text, for networks that write from left to right"),
}
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
    return [
        Model(
            names.get(str(one.get("run")), Name(one["title"])),
            {key: str(one.get(key, "")) for key in _FACTS},
            number(one.get("parameters")),
            {key: score for key in TASKS if (score := Measured.read(table(one, "scores").get(key)))},
            {key: str(table(one, "example").get(key, "")) for key in ("task", "given", "answer")},
        )
        for one in rows(found, "models")
        if isinstance(one.get("title"), str)
    ]


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
    low, high = encoder.interval or (-math.inf, math.inf)
    bottom, top = decoder.interval or (-math.inf, math.inf)
    said = "At this size encoder and decoder do not certainly differ on words"
    if low > top:
        said = "The encoder's features label words better"
    elif high < bottom:
        said = "At this size the encoder's features do not label words better"
    return f"{said}: {encoder.value:.1%} right against the decoder's {decoder.value:.1%}"


def tables(models: list[Model]) -> tuple[Table, Table]:
    """What the networks are, and what was measured."""
    names: list[Cell] = [model.name for model in models]
    sizes = [model.parameters for model in models]
    unit = count_unit(sizes, "parameters")
    facts: list[list[Cell]] = [[m.name, *m.facts.values(), unit.text(m.parameters)] for m in models]
    scores = {key: [model.scores.get(key) for model in models] for key in TASKS}
    columns = [Column(title, scores[key], PERCENT, "high") for key, (title, _) in TASKS.items()]
    columns[-1] = Column("Next token", scores["bits_per_byte"], Unit("bits/byte", decimals=3), "low")
    kinds = Table("What the networks are", ["Network", *_FACTS.values(), f"Size\n{unit.name}"], facts, 5)
    return kinds, results_table("What the networks do", "Network", names, columns)


def families_section(found: Mapping[str, Any], names: Mapping[str, Name]) -> Section | None:
    """The table of the kinds, what was measured with pictures of it, and an example of each network."""
    models = read_models(found, names)
    if not models:
        return None
    note = (
        "All networks were trained for the same number of steps on the same text. Percent right on held-out "
        "text, \u00b1 half of the 95% interval. "
    ) + " ".join(f"{name}: {how}." for name, how in TASKS.values())
    drawn, every = [], [model.name for model in models]
    for key, (title, _) in TASKS.items():
        if key != "bits_per_byte":
            label, scores = f"families-{key}", [model.scores.get(key) for model in models]
            unit, references = Unit("% right", 0.01, 1), _baselines(found, key)
            drawn.append(track_figure(label, title, every, scores, unit, references=references))
    samples = []
    for model in models:
        task, given, answer = (model.example[key] for key in ("task", "given", "answer"))
        shown = [(f"Task: {task}", [Span(given, "code")]), ("Answer", [Span(answer, "code")])]
        samples += [Sample(model.name, shown)] if answer else []
    blocks: list[Block] = [*tables(models), Text(note, "muted", ("families.json", COMMAND)), Figures(drawn)]
    blocks.append(Samples(["What each answers"], samples))
    return Section("families", "One network of each kind", blocks)


def _baselines(found: Mapping[str, Any], key: str) -> list[tuple[str, float]]:
    """What needs no network: the most frequent label, a probe on embeddings alone."""
    known = table(table(found, "baselines"), key).items()
    return [(name, share) for name, value in known if (share := number(value)) is not None]
