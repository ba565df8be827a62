"""One network of each kind side by side: what each is, what it reads, and what it was measured to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seedbed.report.charts import Caption, Mark, Track, track_chart
from seedbed.report.markup import Child, Markup, element
from seedbed.report.page import figure, inline_code, panels, paragraph, section, swatch, table
from seedbed.report.run_files import RunFiles
from seedbed.report.units import count_text, number

COMMAND = "seedbed demo --families"
# Key, name, what was done; shares but for the bits, of which fewer are better.
TASKS: tuple[tuple[str, str, str], ...] = (
    ("cloze", "One hidden token", "one token of 64 hidden, the likeliest of the vocabulary is the one"),
    (
        "span",
        "Three hidden tokens",
        "three in a row hidden, each told with those before it (a masked one: none)",
    ),
    ("words", "Words labelled", "a linear probe on frozen features tells the role of an identifier"),
    ("sentences", "Texts labelled", "a linear probe on mean features tells what a docstring documents"),
    (
        "bits_per_byte",
        "Next token",
        "bits per byte of held-out text, for networks that write from left to right",
    ),
)


@dataclass(frozen=True)
class Score:
    """A measured value with its 95% interval, where it has one."""

    value: float
    interval: tuple[float, float] | None

    @classmethod
    def read(cls, found: Any) -> Score | None:
        """None where nothing was measured."""
        value = number(found.get("value")) if isinstance(found, Mapping) else None
        if value is None:
            return None
        ends = found.get("interval")
        low, high = (
            (number(end) for end in ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
        )
        return cls(value, None if low is None or high is None else (low, high))


@dataclass(frozen=True)
class Model:
    """A network of `families.json`."""

    run: str
    title: str
    words: Mapping[str, str]  # architecture, objective, sees, good_at
    parameters: float | None
    scores: Mapping[str, Score]
    example: Mapping[str, str]


def read_models(found: Mapping[str, Any]) -> list[Model]:
    """The networks of `families.json`; what is not as it should be is left out."""
    listed = found.get("models")
    models = []
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, Mapping) or not isinstance(one.get("title"), str):
            continue
        parts = (one.get("scores"), one.get("example"))
        scores, example = (part if isinstance(part, Mapping) else {} for part in parts)
        models.append(
            Model(
                run=str(one.get("run", "")),
                title=one["title"],
                words={k: str(one.get(k, "")) for k in ("architecture", "objective", "sees", "good_at")},
                parameters=number(one.get("parameters")),
                scores={key: s for key, _, _ in TASKS if (s := Score.read(scores.get(key))) is not None},
                example={key: str(example.get(key, "")) for key in ("task", "given", "answer")},
            )
        )
    return models


def finding(found: Mapping[str, Any]) -> str:
    """Whether the encoder's features label words better than the decoder's, by their intervals.

    Empty where that was not measured.
    """
    of_kind: dict[str, Score] = {}
    for model in read_models(found):
        if "words" in model.scores:
            of_kind.setdefault(model.words["architecture"], model.scores["words"])
    encoder, decoder = of_kind.get("encoder-only"), of_kind.get("decoder-only")
    if encoder is None or decoder is None:
        return ""
    said = f"{encoder.value:.1%} right against the decoder's {decoder.value:.1%}"
    if encoder.interval and decoder.interval and encoder.interval[0] > decoder.interval[1]:
        return f"The encoder's features label words better: {said}"
    if encoder.interval and decoder.interval and encoder.interval[1] < decoder.interval[0]:
        return f"At this size the encoder's features do not label words better: {said}"
    return f"At this size no difference is certain between encoder and decoder on words: {said}"


def _shown(key: str, score: Score | None) -> str:
    if score is None:
        return "-"
    if key == "bits_per_byte":
        return f"{score.value:.3f}"
    half = "" if score.interval is None else f"±{50 * (score.interval[1] - score.interval[0]):.1f}"
    return f"{100 * score.value:.1f}{half}"


def _starred(key: str, model: Model, models: Sequence[Model]) -> str:
    score = model.scores.get(key)
    return _shown(key, score) + ("*" if score is not None and score == _best(key, models) else "")


def _best(key: str, models: Sequence[Model]) -> Score | None:
    known = [model.scores[key] for model in models if key in model.scores]
    choose = min if key == "bits_per_byte" else max
    return choose(known, key=lambda score: score.value) if len(known) > 1 else None


def terminal_tables(found: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of tables for a terminal: what the networks are, and what was measured."""
    models = read_models(found)
    kinds = [[model.title, model.words["architecture"], model.words["objective"]] for model in models]
    uses = [[model.title, model.words["sees"], model.words["good_at"]] for model in models]
    measured = [[model.title, *(_starred(key, model, models) for key, _, _ in TASKS)] for model in models]
    names = ["cloze %", "span %", "words %", "texts %", "bits/B"]
    return [
        ("What they are", ["network", "architecture", "objective"], kinds),
        ("", ["network", "sees", "good at"], uses),
        ("What they do, held out; ± half of a 95% interval, * the best", ["network", *names], measured),
    ]


def families_section(found: Mapping[str, Any], runs: Sequence[RunFiles]) -> Markup | None:
    """The table that courses draw, with what was measured, pictures of it, and an example of each network."""
    models = read_models(found)
    if not models:
        return None
    places = {run.name: index for index, run in enumerate(runs)}
    header: list[Child] = ["Network", "Architecture", "Objective", "Sees", "Good at", "Parameters"]
    rows: list[list[Child]] = [
        [
            swatch(places.get(model.run), model.title),
            *model.words.values(),
            "-" if model.parameters is None else count_text(model.parameters),
        ]
        for model in models
    ]
    scores: list[list[Child]] = []
    for key, name, how in TASKS:
        best = _best(key, models)
        cells = [
            element("b", text) if best is not None and model.scores.get(key) == best else text
            for model in models
            for text in (_shown(key, model.scores.get(key)),)
        ]
        scores.append([element("span", name, title=how), *cells])
    notes = paragraph(
        "Percent right on held-out text, ± half of the 95% interval; next token in bits per byte, fewer are ",
        "better. ",
        *(f"{name}: {how}. " for _, name, how in TASKS),
        "All networks read the same pieces, and were trained on as many tokens. From ",
        inline_code("families.json"),
        " by ",
        inline_code(COMMAND),
        ".",
        class_="muted",
    )
    return section(
        "families",
        finding(found) or "One network of each kind",
        table(header, rows, label="The kinds of networks", numeric_from=5),
        table(["Measured", *(model.title for model in models)], scores, label="What each network does"),
        notes,
        panels(*(_picture(key, name, found, models, places) for key, name, _ in TASKS[:4])),
        *(_example(model, places) for model in models if model.example["answer"]),
    )


def _picture(
    key: str, name: str, found: Mapping[str, Any], models: Sequence[Model], places: Mapping[str, int]
) -> Markup | None:
    """The models' shares right, one under the other, and the baselines."""
    tracks = [
        Track(
            model.title,
            _shown(key, score),
            places.get(model.run, 0),
            (Mark(100 * score.value, interval=_percent(score.interval)),),
        )
        for model in models
        if (score := model.scores.get(key)) is not None
    ]
    bases = found.get("baselines")
    of_task = bases.get(key) if isinstance(bases, Mapping) else None
    if not tracks:
        return None
    known = (
        {str(k): v for k, one in of_task.items() if (v := number(one)) is not None}
        if isinstance(of_task, Mapping)
        else {}
    )
    beside = "".join(f" {label}: {100 * value:.1f}." for label, value in known.items())
    caption = Caption(
        f"families-{key}",
        f"{name}, percent right",
        f"{'; '.join(f'{t.label}: {t.note}' for t in tracks)}.{beside}",
    )
    said = f"{name}, percent right." + (f" Without a network:{beside}" if beside else "")
    return figure(track_chart(tracks, caption=caption, x_label="percent"), said)


def _percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def _example(model: Model, places: Mapping[str, int]) -> Markup:
    """What the network made of its own kind of task."""
    return element(
        "div",
        paragraph(swatch(places.get(model.run), model.title), f", {model.example['task']}:"),
        element(
            "pre",
            element("code", f"{model.example['given']}\n\u2192\n{model.example['answer']}"),
            tabindex="0",
        ),
    )
