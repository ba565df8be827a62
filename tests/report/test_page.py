"""A page is data: one template escapes every value, and a new page needs no code of its own."""

import dataclasses
import html
import json
import re
from collections.abc import Callable
from typing import Any

import jinja2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.report.charts import Line, line_figure
from seedbed.report.page import (
    Answer,
    Block,
    Column,
    Details,
    Figures,
    Name,
    Page,
    Sample,
    Samples,
    Section,
    Span,
    Table,
    Text,
    Value,
    printable,
    results_table,
)
from seedbed.report.tracks import track_figure
from seedbed.report.units import PERCENT, Measured, Unit, seconds_unit

DASH = "\u2013"
LADDER = json.loads("""{"chosen": "lora", "rungs": [
  {"name": "zero_shot", "score": 0.11, "interval": [0.09, 0.13], "seconds": 4.0, "planned_seconds": 5.0,
   "forgetting": 0.0, "forgetting_interval": [0.0, 0.0], "verdict": "short"},
  {"name": "lora", "score": 0.27, "interval": [0.25, 0.29], "seconds": 130.0, "planned_seconds": 118.0,
   "forgetting": 0.021, "forgetting_interval": [0.015, 0.027], "verdict": "met"},
  {"name": "full", "score": null, "interval": null, "seconds": null, "planned_seconds": 600.0,
   "forgetting": null, "forgetting_interval": null, "verdict": "skipped"}]}""")


def blocks_html(*blocks: Block) -> str:
    """The part of a page that shows these blocks."""
    text = Page("a", "b", [Section("c", "d", blocks)]).html()
    return re.split(r"<h2>d</h2>\n", text)[1].split("</section>")[0]


def ladder_page(found: dict[str, Any], target: float) -> Page:
    """A page of a later package, from its JSON, as its author would write it."""
    rungs = found["rungs"]
    names = [Name(rung["name"], index) for index, rung in enumerate(rungs)]

    def measured(key: str, interval: str) -> list[Measured | None]:
        return [Measured.read({"value": rung[key], "interval": rung[interval]}) for rung in rungs]

    scores, forgotten = measured("score", "interval"), measured("forgetting", "forgetting_interval")
    planned, seconds = ([rung[key] for rung in rungs] for key in ("planned_seconds", "seconds"))
    score, unit = Unit("ROUGE-L", decimals=2), seconds_unit(seconds)
    columns = [
        Column("Score", scores, score, "high"),
        Column("Forgetting", forgotten, PERCENT, "low"),
        Column("Time", seconds, unit, "low"),
    ]
    pictures = [
        track_figure("scores", "Score of each rung", names, scores, score, references=[("target", target)]),
        track_figure("time", "Time", names, seconds, unit, planned=planned),
    ]
    source = ("ladder.json", "seedbed adapt")
    table = results_table("The rungs", "Rung", names, columns)
    heading = f"{found['chosen']} is the cheapest rung that meets {target}"
    return Page(
        "dialogues",
        heading,
        [Section("rungs", heading, [Figures(pictures), table, Text("", "muted", source)])],
    )


def test_a_later_author_writes_a_page_as_data(read_page: Callable[[str], Any]) -> None:
    page = read_page(ladder_page(LADDER, 0.25).html())
    assert page.texts["h1"] == ["lora is the cheapest rung that meets 0.25"]
    assert page.texts["th"][:4] == ["Rung", "Score\nROUGE-L", "Forgetting\n%", "Time\nseconds"]
    assert page.texts["td"] == ["0.11 ±0.02", "0.0 ±0.0", "4", "0.27 ±0.02", "2.1 ±0.6", "130", *3 * [DASH]]
    assert page.texts["b"] == ["0.0", "4", "0.27"]
    first, second = page.texts["figcaption"]
    assert "target 0.25" in first and "planned" in second
    notes = {"0.27 (0.25 to 0.29)", "118 \u2192 130, ratio 1.10", f"600 \u2192 {DASH}, not measured yet"}
    assert notes <= set(page.texts["text"])
    assert "From ladder.json by seedbed adapt." in page.words


def test_every_value_is_escaped_wherever_it_is(read_page: Callable[[str], Any]) -> None:
    evil = "</p><script>alert(1)</script>\"'&\x00"
    y = np.array([3.0, 2.0])
    line = Line(Name(evil, 0), evil, np.array([1.0, 2.0]), y)
    blocks: list[Block] = [
        Table(evil, [evil], [[Name(evil, 1)], [Value(evil, evil, True)]]),
        Figures([line_figure(f"a-{evil}", evil, [line], Unit(evil), Unit(evil)), None]),
        *(Text(evil, look) for look in ("", "muted", "prompt", "code")),
        Text("a", source=(evil, evil)),
        Samples([evil], [Sample(evil, [(evil, [Span(evil, evil), Span(evil, evil, True)])])]),
        Details(evil, [Text(evil)]),
    ]
    answers = [Answer(evil, evil, "good", [evil])]
    page = Page(evil, evil, [Section(evil, evil, blocks)], evil, answers, [evil], blocks[:1], ["top-k"])
    read = read_page(page.html())
    assert not {"script", "img"} & {tag for tag, _ in read.elements}
    shown = printable(evil)
    assert read.words.count(" ".join(shown.split())) >= 22
    assert "samples among the k most likely tokens alone." in read.words
    assert {attributes.get("aria-label") for tag, attributes in read.elements if tag == "div"} >= {shown}


def test_a_page_is_the_same_each_time() -> None:
    page = ladder_page(LADDER, 0.25)
    assert page.html() == page.html()


@given(text=st.text(st.characters(exclude_categories=[])))
def test_any_text_reads_back_as_it_went_in(text: str) -> None:
    """Any code point, halves of surrogate pairs and control characters included."""
    page = Page(text, "b", [Section("c", "d", [Text(text, "code")])]).html()
    page.encode("utf-8")
    shown = re.search("<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)
    assert shown is not None and html.unescape(shown[1]) == printable(text)


def test_control_characters_and_half_surrogates_become_the_replacement_character() -> None:
    assert printable("a\x00b\ud800c\x85d\te\nf\r\ng\rh") == "a\ufffdb\ufffdc\ufffdd\te\nf\ng\nh"


def test_an_undefined_value_is_an_error_that_names_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class Unfinished:
        samples: tuple[object, ...] = ()

    with pytest.raises(jinja2.UndefinedError, match="no attribute 'heading'"):
        blocks_html(Unfinished())  # type: ignore[arg-type]


def test_the_best_of_a_column_is_bold_and_intervals_are_muted() -> None:
    values = [Measured(0.5, (0.4, 0.6)), None, 0.25]
    text = blocks_html(results_table("a", "b", ["x", "y", "z"], [Column("c", values, PERCENT, "high")]))
    assert '<b>50.0</b><span class="muted"> ±10.0</span>' in text
    assert "<b>25.0" not in text and f">{DASH}</td>" in text
    low = blocks_html(results_table("a", "b", ["x", "y", "z"], [Column("c", values, PERCENT, "low")]))
    assert "<b>25.0</b>" in low and "<b>50.0" not in low
    for alike in ([0.5, 0.5001], [0.5, None], [None, None]):
        column = Column("c", alike, PERCENT, "low")
        assert "<b>" not in blocks_html(results_table("a", "b", ["x", "y"], [column]))


def test_a_terminal_gets_the_same_table() -> None:
    values = [Measured(0.5, (0.4, 0.6)), 0.25]
    table = results_table("a", "Network", [Name("x"), "y"], [Column("c", values, PERCENT, "high")])
    assert table.plain() == (["Network", "c %"], [["x", "50.0±10.0*"], ["y", "25.0"]])
