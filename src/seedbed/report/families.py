"""One network of each kind side by side: how well it does three tasks, what it is, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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
from seedbed.report.units import PERCENT, Measured, Unit, rows, table

# The title of each task, and what its picture shows.
TASKS = {
    "cloze": ("One hidden token", "One hidden token of 64, right if it is the most likely of the vocabulary"),
    "words": ("Words labelled", "The role of an identifier, by a linear probe on its frozen features"),
    "sentences": ("Texts labelled", "What a docstring documents, by a linear probe on its mean features"),
}
# The texts about a network, and how they look.
TEXTS = {"architecture": "", "objective": "", "sees": "", "good_at": "", "given": "code", "answer": "code"}
RIGHT = Unit("% right", 0.01, 1)
Row = Mapping[str, Any]  # of `families.json`: a network, or a baseline, which has a title and scores alone


def finding(found: Mapping[str, Any]) -> str:
    """Whether the encoder's features label words better than the decoder's, by their intervals.

    Empty where that was not measured.
    """
    of_kind = {row.get("architecture"): _score(row, "words") for row in _rows(found, "models")}
    encoder, decoder = of_kind.get("encoder-only"), of_kind.get("decoder-only")
    if encoder is None or decoder is None:
        return ""
    (low, high), (bottom, top) = (one.interval or (-math.inf, math.inf) for one in (encoder, decoder))
    said = "At this size encoder and decoder do not certainly differ on words"
    if low > top:
        said = "The encoder's features label words better"
    elif high < bottom:
        said = "At this size the encoder's features do not label words better"
    return f"{said}: {encoder.value:.1%} right against the decoder's {decoder.value:.1%}"


def scores_table(found: Mapping[str, Any], names: Mapping[str, Name]) -> Table:
    """What was measured, baselines last; `names` are those of the runs."""
    networks, baselines = _rows(found, "models"), _rows(found, "baselines")
    scores = {key: [_score(row, key) for row in (*networks, *baselines)] for key in TASKS}
    columns = [Column(TASKS[key][0], values, PERCENT, "high") for key, values in scores.items()]
    titles: list[Cell] = [_name(row, names) for row in networks]
    titles += [row["title"] for row in baselines]
    return results_table("What the networks do", "Network", titles, columns)


def families_section(found: Mapping[str, Any], names: Mapping[str, Name]) -> Section | None:
    """What was measured, as a table and as pictures, and what each network is and answers."""
    networks, baselines = _rows(found, "models"), _rows(found, "baselines")
    if not networks:
        return None
    labels, drawn, samples = [_name(row, names) for row in networks], [], []
    for key, (_, title) in TASKS.items():
        scores = [_score(row, key) for row in networks]
        dashed = [(row["title"], score.value) for row in baselines if (score := _score(row, key))]
        drawn.append(track_figure(f"families-{key}", title, labels, scores, RIGHT, references=dashed))
    for label, row in zip(labels, networks, strict=True):
        texts = {key: [Span(str(row[key]), look)] for key, look in TEXTS.items() if key in row}
        shown = [(key.replace("_", " ").capitalize(), spans) for key, spans in texts.items()]
        samples.append(Sample(label, shown))
    source = ("families.json", "seedbed demo --families")
    note = Text("Percent right on held-out text, \u00b1 half of the 95% interval.", "muted", source)
    cards = Samples(["What each is and answers"], samples)
    blocks: list[Block] = [scores_table(found, names), note, Figures(drawn), cards]
    return Section("families", "One network of each kind", blocks)


def _rows(found: Mapping[str, Any], key: str) -> list[Row]:
    """The networks or the baselines, damaged ones left out."""
    return [row for row in rows(found, key) if isinstance(row.get("title"), str)]


def _name(row: Row, names: Mapping[str, Name]) -> Name:
    return names.get(str(row.get("run")), Name(row["title"]))


def _score(row: Row, key: str) -> Measured | None:
    return Measured.read(table(row, "scores").get(key))
