"""`seedbed evaluate` on the outputs of any system: every form of file, comparisons, and what is refused."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

LINES = [f"the seed number {n} grows in the garden" for n in range(40)]
WORSE = [line if n % 2 else "who knows" for n, line in enumerate(LINES)]
TAGS = [["O", "B-PER", "I-PER"], ["B-LOC"], ["O", "O"]] * 15


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_lines_and_json_lines_score_the_same(seedbed: Callable, tmp_path: Path) -> None:
    references = write(tmp_path / "references.txt", LINES)
    found = []
    for name, lines in (
        ("plain.txt", WORSE),
        ("texts.jsonl", [json.dumps(line) for line in WORSE]),
        ("objects.jsonl", [json.dumps({"id": 3, "prediction": line}) for line in WORSE]),
    ):
        said = seedbed(
            *("evaluate", "--task", "summarize", "--predictions", write(tmp_path / name, lines)),
            *("--references", references, "--json"),
        )
        assert said.code == 0, said.err
        found.append(said.json)
    assert found[0] == found[1] == found[2]
    assert list(found[0]["metrics"]) == ["rougeL", "rouge1", "rouge2"] and found[0]["num_records"] == 40
    score = found[0]["metrics"]["rougeL"]
    assert score["value"] == pytest.approx(0.5) and score["interval"][0] < 0.5 < score["interval"][1]
    assert "use_stemmer=True" in found[0]["signatures"]["rougeL"]


def test_several_references_of_json_lines(seedbed: Callable, tmp_path: Path) -> None:
    rows = [json.dumps({"answers": {"text": [line, "another answer"]}}) for line in LINES]
    references = write(tmp_path / "references.jsonl", rows)
    predictions = write(tmp_path / "p.txt", ["The another answer!"] * 20 + LINES[20:])
    said = seedbed(
        *("evaluate", "--task", "answer", "--predictions", predictions),
        *("--references", references, "--json"),
    )
    assert {name: score["value"] for name, score in said.json["metrics"].items()} == {
        "f1": 1.0,
        "exact_match": 1.0,
    }


def test_columns_and_labels(seedbed: Callable, tmp_path: Path) -> None:
    lines = [line for tags in TAGS for line in [*(f"word NN {tag}" for tag in tags), ""]]
    references = write(tmp_path / "references.conll", lines)
    predictions = write(tmp_path / "p.jsonl", [json.dumps({"tags": tags}) for tags in TAGS])
    how = ("--references", references, "--json")
    said = seedbed("evaluate", "--task", "extract", "--predictions", predictions, *how)
    assert said.json["metrics"]["entity_f1"]["value"] == 1
    true = write(tmp_path / "true.txt", ["good", "bad"] * 20)
    guessed = write(tmp_path / "guessed.jsonl", ['{"label": "good"}'] * 40)
    said = seedbed("evaluate", "--task", "classify", "--predictions", guessed, "--references", true, "--json")
    assert said.json["metrics"]["accuracy"]["value"] == 0.5
    assert said.json["metrics"]["macro_f1"]["value"] == pytest.approx(1 / 3)


def test_two_systems_are_compared_in_a_table(
    seedbed: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    references = write(tmp_path / "references.txt", LINES)
    best, worse = write(tmp_path / "best.txt", LINES), write(tmp_path / "worse.txt", WORSE)
    said = seedbed(
        *("evaluate", "--task", "translate", "--predictions", best, "--references", references),
        *("--against", worse),
    )
    assert said.code == 0, said.err
    bleu = next(line for line in said.out.splitlines() if line.strip().startswith("bleu"))
    assert "1.0000" in bleu and "0.001" in bleu and "nrefs:1|case:mixed|eff:no|tok:13a" in said.out


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_tables_have_columns(ending: str, seedbed: Callable, tmp_path: Path) -> None:
    """The references are in the field that the task names."""
    columns = {"id": list(range(40)), "label": ["x"] * 40, "tone": ["good", "bad"] * 20}
    references, predictions = tmp_path / f"r.{ending}", tmp_path / f"p.{ending}"
    guessed = {"text": ["a, b\nc"] * 40, "prediction": ["good"] * 40}
    for path, table in ((references, columns), (predictions, guessed)):
        if ending == "parquet":
            parquet.write_table(pyarrow.table(table), path)
        else:
            with path.open("w", newline="") as stream:
                rows = csv.writer(stream, delimiter="," if ending == "csv" else "\t")
                rows.writerows([[*table], *zip(*table.values(), strict=True)])
    (tmp_path / "task.toml").write_text(
        '[task]\nname = "tone"\nuse_case = "classify"\ntarget = "tone"\nlabels = ["good", "bad"]\n'
    )
    how = ["--task", tmp_path / "task.toml", "--predictions", predictions, "--references", references]
    found = seedbed("evaluate", *how, "--json").json
    assert found["task"] == "tone" and found["num_records"] == 40
    assert found["metrics"]["accuracy"]["value"] == 0.5
    if ending == "csv":
        references.write_text("tone\ngood\nodd\n" + "bad\n" * 38)
        said = seedbed("evaluate", *how)
        assert said.code == 1 and "r.csv: the task has no label 'odd', only good, bad" in said.errors[-1]
        references.write_text("id,tone\n")
        said = seedbed("evaluate", *how)
        assert said.code == 1 and "r.csv" in said.errors[-1] and len(said.errors) == 1, said.err


def test_intervals_that_are_not_measurable_are_explained(seedbed: Callable, tmp_path: Path) -> None:
    for number in (29, 40):
        predictions = write(tmp_path / "p.txt", WORSE[:number])
        references = write(tmp_path / "r.txt", LINES[:number])
        how = ["--task", "summarize", "--predictions", predictions, "--references", references]
        said = seedbed("evaluate", *how)
        assert said.code == 0 and ("need 30 records or more" in said.out) == (number < 30), said.out


def test_a_text_alone_needs_no_reference(seedbed: Callable, tmp_path: Path) -> None:
    said = seedbed("evaluate", "--task", "write", "--predictions", write(tmp_path / "p.txt", LINES), "--json")
    assert said.json["metrics"]["num_words"]["value"] == 8 and said.json["metrics"]["distinct_1"]["value"] < 1


@pytest.mark.parametrize(
    ("task", "predictions", "references", "part"),
    [
        ("summarise", ["a"], ["a"], "did you mean 'summarize'"),
        ("summarize", ["a", "b"], ["a"], "has 2 outputs and .*r.txt 1; give one for each record"),
        ("summarize", ["a"], None, "needs references: give --references FILE"),
        ("write", ["a"], ["a"], "has no references; leave out --references"),
        ("summarize", [], ["a"], "p.txt has no output"),
        ("extract", ["w O", "w O"], ["w O"], "text 1 has 2 tags in .*p.txt and 1 in .*r.txt"),
    ],
)
def test_what_does_not_match_is_one_line(
    task: str,
    predictions: list[str],
    references: list[str] | None,
    part: str,
    seedbed: Callable,
    tmp_path: Path,
) -> None:
    how = ["--task", task, "--predictions", write(tmp_path / "p.txt", predictions)]
    how += [] if references is None else ["--references", write(tmp_path / "r.txt", references)]
    said = seedbed("evaluate", *how)
    assert said.code in (1, 2) and len(said.err.splitlines()) == 1
    assert re.search(part, said.err), said.err


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "p.jsonl:2 is not JSON"),
        ('{"answer": "a"}', "p.jsonl:2 has none of the fields prediction"),
        ("3", "p.jsonl:2 has 3, expected is text"),
        ('{"prediction": ["a"]}', r"p.jsonl:2 has \['a'\], expected is text"),
    ],
)
def test_a_wrong_line_is_named(line: str, part: str, seedbed: Callable, tmp_path: Path) -> None:
    predictions = write(tmp_path / "p.jsonl", ['"a"', line])
    references = write(tmp_path / "r.txt", ["a", "a"])
    said = seedbed(
        "evaluate", "--task", "summarize", "--predictions", predictions, "--references", references
    )
    assert said.code == 1 and len(said.err.splitlines()) == 1
    assert re.search(part, said.err), said.err


@pytest.mark.parametrize("mark", ["\u2028", "\u0085", "\f"])
def test_only_line_feeds_end_a_line(mark: str, seedbed: Callable, tmp_path: Path) -> None:
    rows = [f"one{mark}two {n}" for n in range(3)]
    references = write(tmp_path / "r.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows])
    predictions = write(tmp_path / "p.txt", rows)
    how = ("--task", "summarize", "--predictions", predictions, "--references", references, "--json")
    found = seedbed("evaluate", *how).json
    assert found["num_records"] == 3 and found["metrics"]["rougeL"]["value"] == 1


def test_tags_may_be_empty(seedbed: Callable, tmp_path: Path) -> None:
    predictions = write(tmp_path / "p.jsonl", ['{"tags": ["", "B-A"]}'])
    references = write(tmp_path / "r.jsonl", ['{"tags": ["O", "B-A"]}'])
    how = ("--task", "extract", "--predictions", predictions, "--references", references, "--json")
    assert seedbed("evaluate", *how).json["metrics"]["entity_f1"]["value"] == 1
