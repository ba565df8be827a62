"""The page of an evaluation: its figures, intervals, answers, and no HTML of the records."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from seedbed.evaluation.metrics.bootstrap import Score
from seedbed.evaluation.result import Result
from seedbed.report.evaluation import render, write_evaluation_page

EVIL = "<img src=x onerror=alert(1)> \"'&</script>"
SCORES = {"accuracy": Score(0.625, (0.5, 0.75)), "macro_f1": Score(0.5125, None)}
BATCH = {"accuracy": Score(0.875, (0.8125, 0.9375)), "macro_f1": Score(0.8625, None)}
ANSWERS = [
    {"text": EVIL, EVIL: 3, "label": "a", "prediction": EVIL, "score": 0.91},
    {"text": "second " * 200, "label": "a", "prediction": "a", "score": 0.52},
    {"text": ["a", "list"], "label": "b", "prediction": "", "score": 0.13},
]
RESULT = Result(
    task=EVIL,
    num_records=1234,
    num_shots=2,
    answering="likelihood",
    chat=True,
    metrics=SCORES,
    seconds=75,
    by_calibration={"none": SCORES, "batch": BATCH},
    variants={
        "draw 0": {"none": SCORES, "batch": BATCH},
        EVIL: {"none": {"accuracy": Score(0.25, (0.1, 0.4))}, "batch": BATCH},
    },
    signatures={"accuracy": "a signature"},
    labels=["a", EVIL, ""],
    confusion=[[11, 12, 13], [21, 22, 23], [31, 32, 33]],
    num_fewer_shots=17,
    answers=ANSWERS,
    values=[0.0, 1.0, 0.0],
)


class Text(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags = "", list[str]()
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_the_page_has_the_figures_and_escapes_the_rest() -> None:
    page = render(RESULT, model=EVIL, data=f"folder/{EVIL.replace('/', '')}")
    found = Text(page)
    assert "<img src=x" not in page and found.tags.count("script") == page.count("</script>")
    for figure in (
        "62.5",
        "50.0",
        "75.0",
        "87.5",
        "51.25",
        "86.25",
        "1,234",
        "17 of 1,234",
        "a signature",
        "25.0",
    ):
        assert figure in found.text or f"{float(figure):.1f}" in found.text, figure
    assert EVIL in found.text and "As a chat, 2 examples" in found.text and "batch calibration" in found.text
    cells = [str(cell) for row in RESULT.confusion or [] for cell in row]
    assert all(cell in found.text for cell in cells) and "(none)" in found.text


def test_the_worst_answers_are_the_most_certain_wrong_ones_first() -> None:
    text = Text(render(RESULT, model="m", data="d.jsonl")).text
    worst, best = text.index("The worst answers"), text.rindex("The best answers")
    places = [text.index(f"robability {score}", worst) for score in ("0.91", "0.13", "0.52")]
    assert worst < places[0] < places[1] < places[2] < best
    assert text.index("Right, probability 0.52", best) < text.index("Wrong, probability 0.91", best)
    assert "second " * 200 not in text


@pytest.mark.parametrize("answering", ["generation", "head"])
def test_other_ways_to_answer(answering: str) -> None:
    result = replace(
        RESULT,
        answering=answering,
        metrics={"perplexity": Score(12.345, None), "num_words": Score(7.25, (7.0, 7.5))},
        by_calibration={},
        variants={},
        confusion=None,
        num_fewer_shots=0,
        labels=[],
        values=[],
    )
    text = Text(render(result, model="m", data="d")).text
    assert "12.3" in text and "The 95% interval needs 30 records or more" in text and "7.2" in text
    assert "Some answers" in text and ("own head" in text) == (answering == "head")


def test_a_signature_is_there_once() -> None:
    result = replace(RESULT, signatures={"accuracy": "a signature", "macro_f1": "a signature", "x": "other"})
    text = Text(render(result, model="m", data="d")).text
    assert text.count("a signature") == 1 and "other" in text


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens": ["Ann", "grows", "a\u00a0seed"], "tags": ["B-PER", "O", "I-X"]},
        {"tags": ["B-PER", "O", "I-X"], "tokens": ["Ann", "grows", "a\u00a0seed"]},
        {"id": 3, "labels": "B-PER O I-X", "text": "Ann grows a\u00a0seed"},
    ],
)
def test_tags_are_behind_their_words(fields: dict[str, Any]) -> None:
    answers = [{**fields, "prediction": ["O", "B-LOC", "I-LOC"], "score": 0.5}]
    result = replace(RESULT, labels=[], values=[0.0], confusion=None, answers=answers)
    text = Text(render(result, model="m", data="d")).text
    assert "Ann/B-PER grows a\u00a0seed/I-X" in text and "Ann grows/B-LOC a\u00a0seed/I-LOC" in text


def test_the_files_are_the_result(tmp_path: Path) -> None:
    page = write_evaluation_page(RESULT, tmp_path, model="m", data="d")
    assert page.read_text("utf-8") == render(RESULT, model="m", data="d")
    found = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert found == json.loads(json.dumps(RESULT.to_dict())) | {"model": "m", "data": "d"}
    assert found["metrics"]["accuracy"] == {"value": 0.625, "interval": [0.5, 0.75]}
    assert (
        found["confusion"][1] == [21, 22, 23]
        and found["labels"][1] == EVIL
        and found["num_fewer_shots"] == 17
    )
