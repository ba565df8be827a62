"""The task of a tuned run on its page: before and after, in words and side by side."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seedbed.report.run_files import read_run
from seedbed.report.run_report import render
from seedbed.report.tuning import changes, trained_text

EVIL = "<img src=x onerror=alert(1)>"
METRICS = {
    "rougeL": {
        "before": {"value": 0.121, "interval": [0.1, 0.15]},
        "after": {"value": 0.345, "interval": [0.31, 0.38]},
        "difference": {"value": 0.224, "interval": [0.18, 0.26], "p_value": 0.001},
    },
    "num_words": {
        "before": {"value": 40.25, "interval": None},
        "after": {"value": 12.5, "interval": None},
        "difference": {"value": -27.75, "interval": None, "p_value": None},
    },
}
ANSWERS = [
    {"text": f"dialogue {n} {EVIL}", "reference": [f"reference {n}"], "before": "", "after": f"answer {n}"}
    for n in range(5)
]


@pytest.fixture
def run(tmp_path: Path, folders: ModuleType) -> Path:
    return Path(folders.write_run(tmp_path / "tuned"))


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u2019", "'")


def write(run: Path, *, worked: str = "yes", is_worse: bool = False, **more: Any) -> None:
    """Add a task to the figures of a run."""
    found = json.loads((run / "metrics.json").read_text())
    task = {"name": "summarize", "metric": "rougeL", "num_records": 48, "metrics": METRICS}
    task |= {"is_worse": is_worse, "answers": ANSWERS} | more
    found |= {"task": task, "worked": worked, "because": "a reason."}
    (run / "metrics.json").write_text(json.dumps(found))


def test_a_task_is_before_and_after(run: Path, read_page: Callable[[str], Any]) -> None:
    write(run)
    html = render(run)
    page = read_page(html)
    assert page.texts["h1"] == ["tuned raises ROUGE-L from 12.1% to 34.5% on held-out records"]
    assert "Summarize: ROUGE-L 34.5%, before training 12.1%" in page.texts["h2"]
    words = plain(page.words)
    assert "ROUGE-L +22.4 percentage points (95% interval +18.0 to +26.0)." in words
    assert "Length -27.8 words, without an interval." in words
    assert "Yes" in words and "a reason." in words and "Answers to 48 held-out records." in words
    assert "34.5% (31.0 to 38.0)" in page.texts["td"] and "40.2 words" in page.texts["td"]
    for text in ("dialogue 4", "reference 4", "answer 4", "(nothing)", "2 more answers"):
        assert text in words
    assert '["reference' not in words and "<img src=x" not in html


def test_the_marks_are_paired_with_their_intervals(run: Path, read_page: Callable[[str], Any]) -> None:
    write(run)
    page = read_page(render(run))
    paths = [attributes for tag, attributes in page.elements if tag == "path"]
    titles = [text for text in page.texts["title"] if text in ("Metrics of the task, %", "Length, words")]
    assert len(titles) == 2
    first = next(i for i, (tag, a) in enumerate(page.elements) if a.get("id") == "task-0-0-title")
    last = next(i for i, (tag, a) in enumerate(page.elements) if a.get("id") == "task-0-1-title")
    drawn = [str(a["class"]).split()[0] for tag, a in page.elements[first:last] if tag == "path"]
    assert [drawn.count(kind) for kind in ("ring", "disc", "whisker")] == [1, 1, 2]
    assert len(paths) > len(drawn)
    assert "Open circle: before training; filled: after. Whiskers: 95% intervals." in page.words


@pytest.mark.parametrize(
    ("worked", "heading"),
    [
        ("not shown", "tuned: ROUGE-L 34.5%, before training 12.1%; no difference is shown"),
        ("too few to say", "tuned: ROUGE-L 34.5%, before training 12.1%; too few records to say more"),
    ],
)
def test_the_heading_follows_the_verdict(
    run: Path, worked: str, heading: str, read_page: Callable[[str], Any]
) -> None:
    write(run, worked=worked)
    assert read_page(render(run)).texts["h1"] == [heading]


def test_worse_answers_keep_the_base(run: Path, read_page: Callable[[str], Any], folders: ModuleType) -> None:
    first = folders.evaluation(0, 8.0, 0.0)
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(json.dumps(first) + "\n" + lines)
    write(run, worked="no", is_worse=True)
    found = json.loads((run / "metrics.json").read_text()) | {"best_step": 0}
    (run / "metrics.json").write_text(json.dumps(found))
    page = read_page(render(run))
    heading = "tuned keeps the base's weights: training changed ROUGE-L from 12.1% to 34.5%"
    assert plain(page.texts["h1"][0]) == heading
    words = plain(page.words)
    assert "The answers became worse: the base's own weights are kept" in words
    assert "ROUGE-L 12.1%" in words and "with the trained ones 34.5%" in words
    score = read_run(run).score("nats per token")
    assert score is not None and score.step == 0 and score.loss.value == 8.0


def test_a_head_has_no_before(run: Path, read_page: Callable[[str], Any]) -> None:
    metrics = {"accuracy": {"after": {"value": 0.9, "interval": [0.8, 0.95]}}}
    answers = [{"text": "Ann grows", "reference": ["B-PER", "O"], "before": None, "after": ["O", "B-LOC"]}]
    write(run, name="tag", metric="accuracy", metrics=metrics, answers=answers)
    page = read_page(render(run))
    assert "Tag: accuracy 90.0%" in page.texts["h2"] and "raises" not in page.texts["h1"][0]
    assert "Before training" not in page.words and "Open circle: before" not in page.words
    assert "Ann/B-PER grows" in page.words and "Ann grows/B-LOC" in page.words


def test_long_texts_are_shortened(run: Path, read_page: Callable[[str], Any]) -> None:
    long = "word " * 1000
    write(run, answers=[{"text": long, "reference": [long, "second"], "before": long, "after": long}])
    page = read_page(render(run))
    assert "second" in page.words and page.words.count("word ") < 4 * 130


@pytest.mark.parametrize(
    "damage",
    [
        {"metrics": 3},
        {"metrics": {"rougeL": {"after": {"value": "x"}}}},
        {"metrics": {"rougeL": 7}},
        {"answers": [3, {}]},
        {"answers": {}},
        {"name": None, "metric": None, "num_records": "many"},
    ],
)
def test_a_damaged_task_is_no_error(run: Path, damage: dict[str, Any]) -> None:
    write(run, **damage)
    assert "tuned" in render(run)


def test_what_an_adapter_trains(run: Path, read_page: Callable[[str], Any]) -> None:
    assert trained_text(read_run(run)) == "" and changes(read_run(run)) == []
    own = 'method = "lora"\nrank = 32\nalpha = 64.0\ntargets = ["q", "v"]\nrslora = false\n'
    settings = (run / "settings.toml").read_text().replace("[model]\n", '[model]\nbase = "BASE"\n')
    (run / "settings.toml").write_text(f"{settings}\n[peft]\n{own}")
    plan = json.loads((run / "plan.json").read_text())
    plan |= {"parameters": 251_116_800, "trainable_parameters": 3_538_944}
    (run / "plan.json").write_text(json.dumps(plan))
    said = "tuned: 3,538,944 of 251,116,800 (1.41%) parameters are trained, with lora: rank 32, alpha 64, "
    page = read_page(render(run))
    assert f"{said}targets q and v, rslora false." in page.words
    again = "seedbed tune BASE builtin:prose --peft lora --settings tuned/settings.toml --out again/tuned"
    assert any(again in text for text in page.texts["code"])
