"""The page of an evaluation: scores with intervals, the confusion of labels, the worst and best answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seedbed.base.files import write_file
from seedbed.base.units import seconds_text
from seedbed.evaluation.metrics.bootstrap import Score
from seedbed.evaluation.result import Result
from seedbed.report.answers import short, with_words
from seedbed.report.page import (
    Answer,
    Block,
    Cell,
    Column,
    Figures,
    Name,
    Page,
    Sample,
    Samples,
    Section,
    Span,
    Text,
    results_table,
)
from seedbed.report.scores import metric_title, metric_unit, sentence, value_text
from seedbed.report.sections import confusion_section
from seedbed.report.tracks import track_figure
from seedbed.report.units import Measured

RESULT, PAGE = "evaluation.json", "report.html"
NUM_ITEMS = 5  # of the worst and of the best answers
_TITLES = {"none": "as they are", "batch": "batch calibration", "content_free": "content-free calibration"}


def write_evaluation_page(result: Result, folder: Path, *, model: str, data: str) -> Path:
    """Write evaluation.json and report.html into a folder, and return the page's path."""
    found = result.to_dict() | {"model": model, "data": data}
    write_file(folder / RESULT, json.dumps(found, ensure_ascii=False, indent=1).encode())
    write_file(folder / PAGE, render(result, model=model, data=data).encode("utf-8"))
    return folder / PAGE


def render(result: Result, *, model: str, data: str) -> str:
    """The page of a result."""
    main = next(iter(result.metrics))
    shots = f"{result.num_shots} example{'s' * (result.num_shots != 1)} in the prompt"
    how = {
        "head": "the model's own head",
        "likelihood": "the most likely label",
        "generation": "generated text",
    }
    asked = "" if result.answering == "head" else f"As a {'chat' if result.chat else 'text'}, {shots}."
    fewer = result.num_fewer_shots
    notices = [f"{fewer} of {result.num_records:,} prompts had room for fewer examples."] if fewer else []
    answers = [
        Answer("How well?", value_text(main, result.score.value), "plain", [_interval(main, result.score)]),
        Answer(
            "How was it asked?",
            sentence(how[result.answering]),
            "plain",
            [asked or "Without a prompt."],
        ),
        Answer(
            "What did it cost?", seconds_text(result.seconds), "plain", [f"{result.num_records:,} records."]
        ),
    ]
    return Page(
        subject=f"{result.task}: {Path(data).name}",
        title=f"{sentence(metric_title(main))} {answers[0].verdict} on {result.num_records:,} records",
        answers=answers,
        notices=notices,
        first=[
            _table(result),
            *[Text(text, "muted") for text in dict.fromkeys(result.signatures.values())],
        ],
        sections=[_variants(result, main), _confusion(result, model), *_items(result)],
        terms=["95% interval", *(["macro-F1"] if "macro_f1" in result.metrics else [])],
    ).html()


def _interval(metric: str, score: Score) -> str:
    if score.interval is None:
        return "The 95% interval needs 30 records or more, which are not all alike."
    low, high = (value_text(metric, end) for end in score.interval)
    return f"95% interval {low} to {high}."


def _measured(score: Score | None) -> Measured | None:
    return None if score is None else Measured(score.value, score.interval)


def _table(result: Result) -> Block:
    """The metrics, with a row for each calibration where there are several."""
    rows = result.by_calibration or {"score": result.metrics}
    names: list[Cell] = [_TITLES.get(name, name.capitalize()) for name in rows]
    columns = [
        Column(
            metric_title(metric), [_measured(scores[metric]) for scores in rows.values()], metric_unit(metric)
        )
        for metric in result.metrics
    ]
    return results_table("Scores", "Labels" if result.by_calibration else "", names, columns)


def _variants(result: Result, main: str) -> Section | None:
    """The draws and orders of the examples, and how much the score depends on them."""
    if len(result.variants) < 2:
        return None
    blocks: list[Block] = []
    drawn = []
    for calibration in next(iter(result.variants.values())):
        scores = [each[calibration][main] for each in result.variants.values()]
        names = [Name(name, 0) for name in result.variants]
        title = f"{metric_title(main)}, {_TITLES[calibration]}"
        values = [_measured(score) for score in scores]
        drawn.append(track_figure(f"variants-{calibration}", title, names, values, metric_unit(main)))
    own = [each[next(iter(each))][main].value for each in result.variants.values()]
    low, high = value_text(main, min(own)), value_text(main, max(own))
    blocks.append(Figures(drawn))
    return Section("variants", f"Other examples or another order: {low} to {high}", blocks)


def _confusion(result: Result, model: str) -> Section | None:
    if result.confusion is None:
        return None
    names = [name or "(none)" for name in result.labels]
    return confusion_section(names, np.array(result.confusion, np.float64), model)


def _items(result: Result) -> Sequence[Section]:
    """The answers with the lowest and the highest values, the most certain first."""
    if not result.values and result.answering == "likelihood":
        return []
    if not result.values:
        return [Section("answers", "Some answers", [_samples(result, range(NUM_ITEMS))])]
    places = range(len(result.values))
    worst = sorted(places, key=lambda i: (result.values[i], -result.answers[i]["score"]))[:NUM_ITEMS]
    best = sorted(places, key=lambda i: (-result.values[i], -result.answers[i]["score"]))[:NUM_ITEMS]
    return [
        Section("worst", "The worst answers, the most certain first", [_samples(result, worst)]),
        Section("best", "The best answers, the most certain first", [_samples(result, best)]),
    ]


def _samples(result: Result, places: Sequence[int]) -> Samples:
    """Records with their answers, each under its value and the probability of the answer."""
    samples, main = [], metric_title(next(iter(result.metrics)))
    for place in places[: len(result.answers)]:
        fields = dict(result.answers[place])
        prediction, score = fields.pop("prediction"), fields.pop("score")
        title = f"Probability {score:.2f}"
        if result.labels:
            title = f"{'Right' if result.values[place] else 'Wrong'}, probability {score:.2f}"
        elif result.values:
            title = f"{sentence(main)} {result.values[place]:.3f}, probability {score:.2f}"
        if isinstance(prediction, list):
            fields, prediction = with_words(fields, prediction)
        rows = [(str(name), [Span(short(text))]) for name, text in fields.items()]
        rows.append(("prediction", [Span(short(prediction), "code")]))
        samples.append(Sample(title, rows))
    return Samples([], samples, stacked=True)
