"""The contract of tasks: their metrics, how references are written and read, their prompts and examples."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.task_models import decoder

from seedbed.evaluation.metrics.table import METRICS
from seedbed.evaluation.prompts import Prompts
from seedbed.evaluation.records import Record, label_values, read_records, record_of
from seedbed.evaluation.shots import CHOICES, NEAREST, choose_shots, free_of, nearest_shots
from seedbed.evaluation.task import TASKS, TaskSettings

TEXTS = [
    {"text": "the seed grows", "target": "it grows in the garden"},
    {"text": "who sows them", "target": "they do so every spring"},
]
# Records of each task; the first field is the text, the second the reference.
RECORDS: dict[str, list[dict[str, Any]]] = {
    "answer": [
        {
            "question": "who sows?",
            "answers": {"text": ["Ann", "she"], "answer_start": [0, 9]},
            "context": "c",
        },
        {"question": "what grows?", "answers": ["a seed"]},
    ],
    "classify": [{"text": "a good seed", "label": "good"}, {"text": "a dry leaf", "label": "bad"}],
    "code": [
        {"prompt": "def one():\n    ", "test": "assert one() == 1", "solution": "return 1\n"},
        {
            "prompt": "def two():\n",
            "test": "def check(f):\n    assert f() == 2",
            "entry_point": "two",
            "solution": "    x = 1\n\n    return x + x\n\n\ndef other():\n    return 3\n",
        },
    ],
    "extract": [
        {"tokens": ["Ann", "Lee", "saw", "Paris"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]},
        {"tokens": ["no", "10\u00a0000", "names"], "tags": ["O", "O", "O"]},
    ],
    "summarize": TEXTS,
    "tag": [
        {"tokens": ["either/or", "10\u00a0000"], "tags": ["CONJ", "NUM"]},
        {"tokens": ["the", "dog", "the"], "tags": ["DET", "NOUN", "DET"]},
    ],
    "translate": TEXTS,
    "write": [
        {"prompt": "one text", "completion": "has several words here"},
        {"prompt": "another", "completion": "has its own and no other word"},
    ],
}
EMPTY = {"texts": "", "label": "", "text": "", "code": ""}


BY_FORM: dict[str, list[Any]] = {
    "texts": ["Ann sows a seed today", "nobody knows the other answer"],
    "label": ["good", "bad"],
    "tags": [["O", "B-PER"], ["B-LOC", "O"]],
    "text": ["one text has several words", "another has more than that one"],
    "code": ["assert True", "assert 1 + 1 == 2"],
}


def rows_of(name: str) -> list[dict[str, Any]]:
    """The records of a task: its own, or two of its form."""
    task = TASKS.get(name)
    texts = [["Ann", "sows"], ["Kyoto", "grows"]] if task.form == "tags" else ["Ann sows", "Kyoto grows"]
    answers = BY_FORM[task.form]
    rows = [
        {task.inputs[0]: text, task.targets[0]: answer} for text, answer in zip(texts, answers, strict=True)
    ]
    return RECORDS.get(name, rows)


def records_of(name: str) -> tuple[TaskSettings, list[Record]]:
    settings = TaskSettings(use_case=name)
    found = [record_of(one, settings, f"r:{n}", needs_target=True) for n, one in enumerate(rows_of(name))]
    return replace(settings, labels=tuple(label_values(found, settings))), found


def test_the_records_are_those_of_tasks() -> None:
    assert {*RECORDS} <= {*TASKS.names()}


@pytest.mark.parametrize("name", TASKS.names())
def test_the_reference_scores_best_and_nothing_worst(name: str) -> None:
    """What is written for the reference and read again is the output."""
    task, (settings, records) = TASKS.get(name), records_of(name)
    assert task.meaning.endswith(".") and all(task.form in METRICS[metric].forms for metric in task.metrics)
    prompts = Prompts(decoder(), settings, chat=False)
    references = [one.references if task.form == "texts" else one.reference for one in records]
    right = [task.read(prompts.answer(one), prompts.fields(one), settings.words) for one in records]
    if task.form not in ("texts", "code"):
        assert right == references
    empty = [[""] * len(one.words) if task.form == "tags" else EMPTY[task.form] for one in records]
    for metric in task.metrics:
        best, worst = (
            float(METRICS[metric].score(references, outputs)(np.ones((1, 2)))[0])
            for outputs in (right, empty)
        )
        if metric == "repetition":
            assert best == worst == 0
        else:
            assert best > worst == 0 and (metric == "num_words" or best == pytest.approx(1))


@pytest.mark.parametrize("name", TASKS.names())
def test_words_for_labels_are_written_and_read(name: str) -> None:
    task, (settings, records) = TASKS.get(name), records_of(name)
    worded = replace(settings, labels={label: f"word{n}" for n, label in enumerate(settings.words)})
    prompts = Prompts(decoder(), worded, chat=False)
    for record in records if settings.words else []:
        written = prompts.answer(record)
        assert not any(label in written.split() for label in settings.words if label != "O")
        assert task.read(written, prompts.fields(record), worded.words) == record.reference


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", TASKS.names())
def test_the_prompt_is_reproducible_and_has_no_reference(name: str, chat: bool) -> None:
    settings, (first, second) = records_of(name)
    lm = decoder(chat=True)
    found = Prompts(lm, settings, chat=chat).whole(first, [second])
    assert found == Prompts(lm, settings, chat=chat).whole(first, [second])
    own, other = (Prompts(lm, settings, chat=chat).answer(one) for one in (first, second))
    text = json.dumps(found, ensure_ascii=False)
    assert (
        json.dumps(other, ensure_ascii=False)[1:-1] in text
        and json.dumps(first.text, ensure_ascii=False)[1:-1] in text
    )
    if name not in ("classify", "code"):  # whose answers are in the texts or in the labels
        assert own not in text
    if chat:
        assert [one["role"] for one in found] == ["user", "assistant", "user"]  # type: ignore[index]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", TASKS.names())
def test_the_tested_record_is_never_an_example(name: str, choice: Any, tmp_path: Path) -> None:
    """Not with other capitals and white space either."""
    settings, records = records_of(name)
    field = next(iter(rows_of(name)[0]))
    rows = []
    for number in range(6):
        for row in rows_of(name):
            text = row[field]
            new = [f"w{number}", *text[1:]] if isinstance(text, list) else f"{text} {number}"
            rows.append(row | {field: new})
    for row in rows_of(name):
        text = row[field]
        other = [word.upper() for word in text] if isinstance(text, list) else f"  {text.upper()} \n"
        rows += [row, row | {field: other}]
    file = tmp_path / "pool.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pool = free_of(list(read_records(file, settings)), records)
    assert len(pool) == 12
    if choice in NEAREST:
        by_text = nearest_shots(pool, 4, choice, decoder())([one.text for one in records])
        inside = nearest_shots(records, 1, choice, decoder())([one.text for one in records])
        assert [[one.text for one in found] for found in inside] == [[records[1].text], [records[0].text]]
    else:
        by_text = [choose_shots(pool, 4, settings, choice=choice)] * 2
    tested = {" ".join(one.text.lower().split()) for one in records}
    for found in by_text:
        assert len({one.text for one in found}) == 4
        assert not {" ".join(one.text.lower().split()) for one in found} & tested


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        *[("Good.", "good"), (" not good", "not good"), ("It is female", "female"), ("12", ""), ("1.", "1")],
        *[("male", "male"), ("", ""), ("good or male", "good"), ("either male or 1", ""), ("这是好的", "好")],
        ("goodness", ""),
    ],
)
def test_a_label_is_a_whole_word_of_an_answer(answer: str, label: str) -> None:
    words = {one: one for one in ("good", "not good", "male", "female", "1", "好")}
    assert TASKS.get("classify").read(answer, {}, words) == label


def test_names_are_read_where_they_are() -> None:
    extract = TASKS.get("extract")
    words = {"PER": "person", "LOC": "place"}
    fields = {"input": "Ann met Ann in New York"}
    answer = "ann: Person; Ann: person; New York: place; Rome: place; met: verb; York; : place"
    tags = ["B-PER", "O", "B-PER", "O", "B-LOC", "I-LOC"]
    assert extract.read(answer, fields, words) == tags
    assert extract.read("none", fields, words) == ["O"] * 6


def test_a_words_label_survives_words_that_an_answer_leaves_out() -> None:
    tag = TASKS.get("tag")
    words = {"DET": "DET", "NOUN": "NOUN"}
    assert tag.read("the/DET dog/NOUN", {"input": "the big dog"}, words) == ["DET", "", "NOUN"]
    assert tag.read("dog/NOUN", {"input": "dog"}, words | {"O": "O"}) == ["NOUN"]
    assert tag.read("dog/VERB", {"input": "dog"}, words | {"O": "O"}) == ["O"]


def test_a_program_continues_its_beginning_or_is_whole() -> None:
    read = TASKS.get("code").read
    begun = {"input": 'def f(x):\n    """Add."""\n    '}
    assert read("    return x\n\n\ndef g():\n    pass\n", begun, {}).count("def f") == 1
    assert read("def f(x):\n    return x\n", begun, {}) == "def f(x):\n    return x\n"
    assert (
        read("Here:\n```python\ndef f(x):\n    return 1\n```\nDone", begun, {}) == "def f(x):\n    return 1\n"
    )
    compile(read("    y = x\n    return y\n", begun, {}), "answer", "exec")


def test_humanevals_check_is_called() -> None:
    """Its field `test` only defines `check`: a wrong program would pass."""
    settings, records = records_of("code")
    assert records[1].reference.endswith("check(two)")
    again = record_of({**records[1].fields, "test": records[1].reference}, settings, "r")
    assert again.reference == records[1].reference
    wrong = METRICS["pass_at_1"].score([records[1].reference], ["def two():\n    return 3\n"])
    assert float(wrong(np.ones((1, 1)))[0]) == 0
    row = {"text": "t", "test_list": ["assert a", "assert b"], "test_setup_code": "a = b = 1"}
    assert record_of(row, settings, "r").reference == "a = b = 1\n\nassert a\nassert b"
