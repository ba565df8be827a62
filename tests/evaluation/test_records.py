"""Records of a task: every form of file, the references, and what is refused with its place."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from seedbed.base.errors import DataError, SeedbedError, UsageError
from seedbed.evaluation.records import Record, read_records, record_of
from seedbed.evaluation.task import TaskSettings

SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Seeds",
            "paragraphs": [
                {
                    "context": "Ann sows seeds.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "Who sows?",
                            "answers": [{"text": "Ann", "answer_start": 0}] * 2,
                        },
                        {
                            "id": "2",
                            "question": "What?",
                            "answers": [{"text": "seeds"}, {"text": "the seeds"}, {"text": " "}],
                        },
                    ],
                }
            ],
        }
    ],
}


def read(path: Path, content: str | bytes, needs_target: bool = True, **settings: Any) -> list[Record]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_records(path, TaskSettings(**settings), needs_target=needs_target))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "so so", "label": 1}\n\n{"text": "fine", "label": 1.0}\n'),
        ("a.json", '[{"text": "so so", "label": 1},\n {"text": "fine", "label": "1"}]'),
        ("a.csv", "text,label\nso so,1\nfine,1.0\n"),
        ("a.tsv", "Text\tLabel\nso so\t1\nfine\t1\n"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "so so", "label": 1}\n{"text": "fine", "label": 1}\n', mtime=0),
        ),
    ],
)
def test_forms_of_files(name: str, content: str | bytes, tmp_path: Path) -> None:
    found = read(tmp_path / name, content, use_case="classify")
    assert [(one.text, one.reference) for one in found] == [("so so", "1"), ("fine", "1")]
    assert str(tmp_path / name) in found[0].origin


def test_lines_of_a_text_end_at_line_feeds_alone(tmp_path: Path) -> None:
    content = "one\u2028two\n\n \nthree\r\n\ufefffour"
    found = read(tmp_path / "a.txt", content, use_case="write", needs_target=False)
    assert [one.text for one in found] == ["one\u2028two", "three", "\ufefffour"]
    assert [one.origin.rpartition(":")[2] for one in found] == ["1", "4", "5"]
    found = read(tmp_path / "a.txt", content, use_case="classify", input="review", needs_target=False)
    assert found[0].fields == {"review": "one\u2028two"}


@pytest.mark.parametrize("indent", [None, 1])
def test_squad_has_questions_with_their_passage(indent: int | None, tmp_path: Path) -> None:
    found = read(tmp_path / "dev.json", json.dumps(SQUAD, indent=indent), use_case="answer")
    assert [(one.text, one.reference) for one in found] == [
        ("Who sows?", ["Ann"]),
        ("What?", ["seeds", "the seeds"]),
    ]
    assert found[1].fields["context"] == "Ann sows seeds." and found[1].origin.endswith("question 2")
    wrong: dict[str, Any] = {"data": [{"paragraphs": [{"context": "a", "qas": [3]}]}]}
    for each in (wrong, {"data": [3]}, {"data": [{"paragraphs": [{"qas": 3}]}]}):
        with pytest.raises(DataError, match=r"dev\.json.* give SQuAD's form"):
            read(tmp_path / "dev.json", json.dumps(each), use_case="answer")


def test_classes_of_parquet_have_their_names(tmp_path: Path) -> None:
    feature = {"label": {"names": ["bad", "good"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    table = pyarrow.table({"text": ["a", "b"], "label": [1, 0]}).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "a.parquet")
    found = list(read_records(tmp_path / "a.parquet", TaskSettings(use_case="classify")))
    assert [one.reference for one in found] == ["good", "bad"] and found[0].fields["label"] == "good"


def test_tags_belong_to_words(tmp_path: Path) -> None:
    content = "10\u00a0000\tB-NUM\nseeds\tO\n\nAnn\tB-PER\n"
    first, second = read(tmp_path / "a.conll", content, use_case="tag")
    assert first.words == ["10\u00a0000", "seeds"] and first.reference == ["B-NUM", "O"]
    assert second.origin.endswith(":4") and second.fields == {"tokens": ["Ann"], "tags": ["B-PER"]}
    with pytest.raises(DataError, match=r"a\.jsonl:1: 2 words and 1 tags; give one tag for each word"):
        read(tmp_path / "a.jsonl", '{"text": "a b", "tags": ["O"]}\n', use_case="tag")


def test_the_usual_names_and_those_that_are_set() -> None:
    row = {"id": 3, "Document": "d", "text": "t", "summary": "s", "output": ""}
    assert record_of(row, TaskSettings(use_case="summarize"), "r").text == "d"
    own = TaskSettings(use_case="summarize", input="text", target="output")
    assert record_of(row, own, "r").text == "t" and record_of(row, own, "r").reference is None
    assert record_of("a text", TaskSettings(use_case="classify", input="x"), "r").fields == {"x": "a text"}


@pytest.mark.parametrize(
    ("settings", "line", "part"),
    [
        ({}, '{"text": "a"}', "a.jsonl:2: no field 'label'; its fields are text"),
        ({}, '{"text": " ", "label": 1}', "a.jsonl:2: the field 'text' is empty; give a text"),
        ({}, '{"text": ["a"], "label": 1}', "the field 'text' is ['a']; give a text"),
        ({}, '{"text": "a", "label": ""}', "a.jsonl:2: the field 'label' is '', expected is a label"),
        ({}, '{"text": "a", "label": null}', "the field 'label' is None, expected is a label"),
        ({}, '{"text": "a", "labels": 1}', "no field 'label'; did you mean 'labels'?"),
        ({}, '{"text": "a\\ud800", "label": 1}', "the lone surrogate \\ud800 is not a character"),
        ({}, "3", "a.jsonl:2 is 3, not an object"),
        ({}, "{", "a.jsonl:2 is not JSON"),
        ({"input": "review"}, "{}", "a.jsonl:1: no field 'review'; its fields are text, label"),
        (
            {"use_case": "summarize", "target": "label"},
            '{"text": "a", "label": " "}',
            "expected is a text, or",
        ),
        (
            {"use_case": "tag", "target": "label"},
            '{"text": "a", "label": [""]}',
            "expected is a list of tags",
        ),
        ({"use_case": "answer"}, "{}", "has the usual name of the answer (answers, answer"),
        ({"prompt": "{input} {label}:"}, "{}", "the prompt names {label}, which is the answer of"),
    ],
)
def test_a_wrong_record_is_named(settings: dict[str, Any], line: str, part: str, tmp_path: Path) -> None:
    good = {"summarize": '{"text": "a", "label": "b"}', "tag": '{"text": "a", "label": "O"}'}
    first = good.get(settings.get("use_case", ""), '{"text": "good", "label": 1}')
    with pytest.raises(SeedbedError) as error:
        read(tmp_path / "a.jsonl", f"{first}\n{line}\n", **({"use_case": "classify"} | settings))
    assert part in str(error.value) and "\n" not in str(error.value), error.value


def test_an_empty_file_and_a_binary_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl has no record; give a file or folder with at least one"):
        read(tmp_path / "a.jsonl", "\n", use_case="classify")
    with pytest.raises(DataError, match=r"a\.txt is binary, not text"):
        read(tmp_path / "a.txt", b"\x00\x01", use_case="write", needs_target=False)
    with pytest.raises(DataError, match=r"does not exist"):
        list(read_records(tmp_path / "none.jsonl", TaskSettings(use_case="write")))


def test_a_record_without_its_text_has_a_problem_if_lenient(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n{"text": " "}\n{"text": "c"}\n')
    settings = TaskSettings(use_case="classify")
    found = list(read_records(tmp_path / "a.jsonl", settings, needs_target=False, lenient=True))
    assert [one.text for one in found] == ["a", "", "", "c"] and found[1].fields == {"txt": "b"}
    assert "a.jsonl:2: no field 'text'" in found[1].problem and "a.jsonl:3: the field" in found[2].problem
    with pytest.raises(DataError, match="no field 'text'"):
        list(read_records(tmp_path / "a.jsonl", settings, needs_target=False))


def test_labels_that_the_prompt_may_name() -> None:
    """The task's own list, also where the answer's field has that name."""
    settings = TaskSettings(use_case="classify", prompt="{labels}: {input}")
    assert record_of({"text": "a", "labels": "x"}, settings, "r").reference == "x"
    with pytest.raises(UsageError, match=r"names \{category\}"):
        named = TaskSettings(use_case="classify", instruction="{input} {category}")
        record_of({"text": "a", "category": "x"}, named, "r")
