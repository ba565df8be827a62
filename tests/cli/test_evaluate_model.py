"""`seedbed evaluate MODEL`: figures of every way to answer, what is left of them, and what is refused."""

import html
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from tests.cli.conftest import LABELLED, ROWS, stopped, write
from tests.task_models import HEADS, headed

import seedbed as package

ALWAYS = "always::seedbed.base.errors.SeedbedWarning"


@pytest.mark.parametrize("name", ["decoder", "chat", "bart"])
def test_labels_by_prompt(
    name: str, seedbed: Callable, task_models: dict[str, Path], tested: Path, pool: Path
) -> None:
    how = [task_models[name], *LABELLED, "--data", tested, "--examples", pool, "--num-shots", 2]
    said = seedbed("evaluate", *how, "--json")
    assert said.code == 0, said.err
    found = said.json
    assert (found["num_records"], found["num_shots"], found["labels"]) == (40, 2, ["0", "1"])
    assert found["chat"] == (name == "chat") and found["answering"] == "likelihood"
    table = found["confusion"]
    assert [sum(row) for row in table] == [20, 20]
    assert found["metrics"]["accuracy"]["value"] == (table[0][0] + table[1][1]) / 40
    assert list(found["by_calibration"]) == ["none", "batch"]
    assert seedbed("evaluate", *how, "--json").json | {"seconds": 0} == found | {"seconds": 0}
    said = seedbed("evaluate", *how)
    assert (
        said.code == 0
        and "batch" in said.out
        and f"2 shots, as a {'chat' if name == 'chat' else 'text'}" in said.out
    )


@pytest.mark.parametrize("calibration", ["batch", "content_free"])
def test_the_calibration_is_that_of_the_figures(
    calibration: str, seedbed: Callable, task_models: dict[str, Path], tested: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    how = [
        task_models["decoder"],
        *LABELLED,
        "--data",
        tested,
        "--calibration",
        calibration,
        "--save",
        tmp_path / "s",
    ]
    said = seedbed("evaluate", *how, "--out", out, "--json")
    assert said.code == 0, said.err
    assert said.json["metrics"] == said.json["by_calibration"][calibration]
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    made = package.solution(tmp_path / "s")
    assert [one["prediction"] for one in made.predict(ROWS)] == [one["prediction"] for one in answers]
    right = sum(one["prediction"] == one["reference"] for one in answers)
    assert right / 40 == said.json["metrics"]["accuracy"]["value"]


@pytest.mark.parametrize("calibration", ["none", "batch"])
def test_the_table_says_which_calibration_the_solution_has(
    calibration: str,
    seedbed: Callable,
    task_models: dict[str, Path],
    tested: Path,
    tmp_path: Path,
) -> None:
    how = [*LABELLED, "--data", tested, "--num-records", 8, "--calibration", calibration]
    said = seedbed("evaluate", task_models["decoder"], *how, "--save", tmp_path / "s")
    assert said.code == 0, said.err
    heads = next(line for line in said.out.splitlines() if "metric" in line)
    assert heads.index("uncalibrated") < heads.index("batch") and "intervals" in said.out
    kept = "batch calibration" if calibration == "batch" else "uncalibrated; --calibration batch keeps that"
    assert f"s({kept})".replace(" ", "") in "".join(said.out.split())


def test_the_folder_has_the_figures_and_a_page(
    seedbed: Callable, task_models: dict[str, Path], pool: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"<script>alert({n})</script> & rain", "label": n % 2} for n in range(40)]
    data, out = write(tmp_path / "<b>.jsonl", rows), tmp_path / "out"
    how = [
        task_models["decoder"],
        *LABELLED,
        "--data",
        data,
        "--examples",
        pool,
        "--num-shots",
        1,
        "--draws",
        2,
    ]
    said = seedbed("evaluate", *how, "--out", out, "--json")
    assert said.code == 0, said.err
    found = json.loads((out / "evaluation.json").read_text())
    assert found["data"] == str(data) and found["model"] == str(task_models["decoder"])
    assert {key: said.json[key] for key in ("metrics", "confusion", "variants")} == {
        key: found[key] for key in ("metrics", "confusion", "variants")
    }
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page and "<b>.jsonl" not in page
    assert html.escape("<script>alert(3)</script> & rain") in page or "&lt;script&gt;alert" in page
    value = found["metrics"]["accuracy"]["value"]
    assert re.search(rf"\b{value * 100:.1f}", page) and "onfus" in page
    assert sorted(file.name for file in out.iterdir()) == [
        *("answers-1.jsonl", "answers.jsonl", "evaluation.json", "report.html"),
    ]


def test_draws_and_orders_have_a_mean_and_a_deviation(
    seedbed: Callable, task_models: dict[str, Path], tested: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    how = [task_models["decoder"], *LABELLED, "--data", tested, "--examples", pool, "--num-shots", 3]
    how += ["--draws", 3, "--orders", 2]
    found = seedbed("evaluate", *how, "--json").json["variants"]
    assert list(found) == ["draw 0", "draw 1", "draw 2", "order 1"]
    said = seedbed("evaluate", *how)
    for name, summary in (("mean", fmean), ("standard deviation", stdev)):
        row = next(line for line in said.out.splitlines() if line.strip().startswith(name))
        for kind in ("none", "batch"):
            assert f"{summary([one[kind]['accuracy']['value'] for one in found.values()]):.4f}" in row
    assert seedbed("evaluate", *how[:-4], "--seed", 2, "--json").json["metrics"] == found["draw 2"]["none"]


@pytest.mark.parametrize(
    ("kind", "task"), [("classification", "classify"), ("tagging", "tag"), ("tagging", "extract")]
)
def test_a_head_answers_without_a_prompt(
    kind: str, task: str, seedbed: Callable, task_models: dict[str, Path], tmp_path: Path
) -> None:
    lm = headed(kind)
    texts = [["seed", "rain", "a"], ["Ann"], ["a", "leaf"]] * 12
    if kind == "classification":
        rows: list[dict[str, Any]] = [
            {"text": " ".join(t), "label": HEADS[kind][i % 2]} for i, t in enumerate(texts)
        ]
        right = [lm.classify(row["text"]).label == row["label"] for row in rows]
    else:
        rows = [{"tokens": t, "tags": ["B-PER", "I-PER", "O"][: len(t)]} for t in texts]
        tags = [[word.label for word in lm.tag(t).words] for t in texts]
        right = [
            a == b for own, row in zip(tags, rows, strict=True) for a, b in zip(own, row["tags"], strict=True)
        ]
    data = write(tmp_path / "a.jsonl", rows)
    said = seedbed(
        "evaluate", task_models[kind], "--task", task, "--data", data, "--out", tmp_path / "out", "--json"
    )
    assert said.code == 0 and said.json["answering"] == "head", said.err
    assert "by_calibration" not in said.json
    table = seedbed("evaluate", task_models[kind], "--task", task, "--data", data)
    assert table.code == 0 and "its own head" in table.out and "uncalibrated" not in table.out
    if task != "extract":
        assert said.json["metrics"]["accuracy"]["value"] == pytest.approx(sum(right) / len(right))
    assert "own head" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.filterwarnings(ALWAYS)
def test_a_head_with_other_labels_is_refused_and_with_some_warned_of(
    seedbed: Callable, task_models: dict[str, Path], tmp_path: Path
) -> None:
    rows = [{"text": f"rain {n}", "label": ("good", "bad", "odd")[n % 3]} for n in range(9)]
    data = write(tmp_path / "a.jsonl", rows)
    said = seedbed("evaluate", task_models["classification"], "--task", "classify", "--data", data, "--json")
    assert said.code == 0 and "has the labels bad, good, and not odd: 3 records have one" in said.err, (
        said.err
    )
    write(data, [row | {"label": ("0", "1")[n % 2]} for n, row in enumerate(rows)])
    said = seedbed("evaluate", task_models["classification"], "--task", "classify", "--data", data)
    assert said.code == 1 and "a.jsonl:1: the model's head has the labels bad, good, and not 0, 1" in said.err


@pytest.mark.parametrize("name", ["decoder", "chat", "bart"])
@pytest.mark.parametrize("task", ["summarize", "answer", "extract", "translate", "tag", "write"])
def test_texts_are_generated(
    task: str, name: str, seedbed: Callable, task_models: dict[str, Path], tmp_path: Path
) -> None:
    fields: dict[str, dict[str, Any]] = {
        "answer": {"question": "who", "answers": ["a", "b"], "context": "a seed"},
        "extract": {"tokens": ["Ann", "grows"], "tags": ["B-PER", "O"]},
        "tag": {"tokens": ["Ann", "grows"], "tags": ["B-PER", "O"]},
        "write": {"prompt": "rain", "completion": "on a tree"},
    }
    row = fields.get(task, {"text": "a seed grows", "target": "it grows"})
    data = write(
        tmp_path / "a.jsonl", [row, row | {next(iter(row)): ["one", "two"] if "tokens" in row else "sun"}]
    )
    pool = write(
        tmp_path / "pool.jsonl", [row | {next(iter(row)): ["x", "y"] if "tokens" in row else "leaf"}]
    )
    how = [task_models[name], "--task", task, "--data", data, "--max-new-tokens", 3, "--examples", pool]
    said = seedbed(
        "evaluate", *how, "--num-shots", 1, "--out", tmp_path / "out", "--save", tmp_path / "s", "--json"
    )
    assert said.code == 0 and said.json["answering"] == "generation" and said.json["num_fewer_shots"] == 0, (
        said.err
    )
    assert ("perplexity" in said.json["metrics"]) == (task == "write")
    answers = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    said = seedbed("predict", tmp_path / "s", data, "--out", tmp_path / "p.jsonl")
    found = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [one["prediction"] for one in found] == [one["prediction"] for one in answers], said.err


def test_perplexity_needs_no_answers(seedbed: Callable, task_models: dict[str, Path], tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", [{"prompt": f"seed {n}", "completion": " grows"} for n in range(40)])
    how = ["evaluate", task_models["decoder"], "--task", "write", "--answering", "likelihood", "--data", data]
    found = seedbed(*how, "--out", tmp_path / "out", "--json").json
    assert list(found["metrics"]) == ["perplexity", "bits_per_byte"]
    whole = seedbed(*how[:-4], "--data", data, "--max-new-tokens", 1, "--json").json
    assert found["metrics"].items() <= whole["metrics"].items()
    assert "Perplexity" in (tmp_path / "out" / "report.html").read_text()
    said = seedbed(*how, "--save", tmp_path / "kept")
    assert said.code == 2 and "leave out --save" in said.errors[-1] and not (tmp_path / "kept").exists()


def test_programs_are_run(seedbed: Callable, task_models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"prompt": "x = 1\n#", "test": "assert x == 1"}, {"prompt": "rain", "test": "assert False"}]
    data = write(tmp_path / "a.jsonl", rows)
    said = seedbed(
        "evaluate", task_models["decoder"], "--task", "code", "--data", data, "--max-new-tokens", 1, "--json"
    )
    assert said.code == 0 and said.json["metrics"]["pass_at_1"]["value"] in (0, 0.5), said.err


def test_a_killed_evaluation_continues(
    seedbed: Callable, task_models: dict[str, Path], tested: Path, tmp_path: Path
) -> None:
    rows = write(
        tmp_path / "a.jsonl", [row | {"text": f"{row['text']} {n}"} for n in range(20) for row in ROWS]
    )
    how = ["evaluate", task_models["decoder"], *LABELLED, "--json", "--data", rows, "--out"]
    command = [sys.executable, "-m", "seedbed", *map(str, how), str(tmp_path / "out")]
    part = tmp_path / "out" / "answers.jsonl.part"
    kept = stopped(command, part)
    again, whole = seedbed(*how, tmp_path / "out"), seedbed(*how, tmp_path / "whole")
    assert again.code == whole.code == 0 and "continuing after" in again.err
    answers = (part.parent / "answers.jsonl").read_bytes()
    assert answers.startswith(kept) and answers == (tmp_path / "whole" / "answers.jsonl").read_bytes()
    assert again.json["metrics"] == whole.json["metrics"]
    assert again.json["confusion"] == whole.json["confusion"]
