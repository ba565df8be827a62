"""`seedbed.evaluate` of a loaded model: its figures, and answers that belong to its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.task_models import decoder, saved

import seedbed
from seedbed.base.errors import UsageError

ROWS = [{"text": f"a seed {n} of rain", "label": ("bad", "good")[n % 2]} for n in range(300)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return path


def test_a_loaded_model_has_the_figures_of_its_folder(data: Path, tmp_path: Path) -> None:
    lm = decoder()
    one = seedbed.evaluate(lm, "classify", data, num_records=20, seed=3)
    other = seedbed.evaluate(saved(lm, tmp_path / "m"), "classify", data, num_records=20, seed=3)
    assert one.metrics == other.metrics and one.answers == other.answers and one.num_records == 20
    answers = {answer["text"]: answer["label"] for answer in one.answers}
    assert answers.items() <= {row["text"]: row["label"] for row in ROWS}.items() and len(answers) == 20
    assert [*answers] != [row["text"] for row in ROWS[:20]]


@pytest.mark.parametrize("changes", [False, True])
def test_the_answers_of_other_weights_begin_anew(changes: bool, data: Path, tmp_path: Path) -> None:
    lm = seedbed.load(saved(decoder(), tmp_path / "m"))
    lines: list[Mapping[str, Any]] = []

    def stop(line: Mapping[str, Any]) -> None:
        if "done" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seedbed.evaluate(lm, "classify", data, out=tmp_path / "out", callback=stop)
    if changes:
        next(lm.module.parameters()).data.mul_(0.5)
    result = seedbed.evaluate(lm, "classify", data, out=tmp_path / "out", callback=lines.append)
    assert any("resumed" in line for line in lines) == (not changes)
    assert result.metrics == seedbed.evaluate(lm, "classify", data).metrics


def test_an_error_behind_the_answers_keeps_them_for_the_next_call(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the same process: nothing stays locked."""
    lm, lines = decoder(), list[Mapping[str, Any]]()
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr("seedbed.api.evaluate.write_evaluation_page", lambda *_, **__: 1 // 0)
        seedbed.evaluate(lm, "classify", data, num_records=20, out=tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "answers.jsonl",
        "answers.jsonl.part.json",
    ]
    how: dict[str, Any] = {"out": tmp_path / "out", "callback": lines.append}
    seedbed.evaluate(lm, "classify", data, num_records=20, **how)
    assert {"resumed": 20} in lines and not any("done" in line for line in lines)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("answers.jsonl", "evaluation.json", "report.html"),
    ]


@pytest.mark.parametrize(
    ("how", "part"),
    [
        ({"save": "solution"}, "a solution names its model: give the model's folder"),
        ({"shots": "best"}, "shots='best' is unknown"),
        ({"num_shots": -1}, "num_shots=-1 is not allowed"),
        ({"num_orders": 0}, "num_orders=0 is not allowed; give a whole number from 1"),
        ({"num_draws": 1.5}, "num_draws=1.5 is not a whole number"),
        ({"num_records": 0}, "num_records=0 is not allowed"),
        ({"seed": "x"}, "seed='x' is not a whole number"),
        ({"answering": "guess"}, "answering='guess' is unknown"),
        ({"calibration": "bach"}, "did you mean 'batch'"),
        ({"task": "clasify"}, "did you mean 'classify'"),
    ],
)
def test_wrong_arguments(how: dict[str, Any], part: str, data: Path, tmp_path: Path) -> None:
    how = {"task": "classify"} | how
    how |= {"save": tmp_path / how["save"]} if "save" in how else {}
    with pytest.raises(UsageError, match=part):
        seedbed.evaluate(decoder(), how.pop("task"), data, **how)
    assert [file.name for file in tmp_path.iterdir()] == ["data.jsonl"]
