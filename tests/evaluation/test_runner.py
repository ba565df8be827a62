"""Runs of a task: their figures, choices of examples, and answers that an interrupted run has already."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.task_models import decoder

from seedbed.evaluation import solution as solutions
from seedbed.evaluation.metrics.table import METRICS
from seedbed.evaluation.records import Record, record_of
from seedbed.evaluation.runner import Runner, record_values, variants, weighted
from seedbed.evaluation.solution import ModelReference, PromptSettings, SolutionSettings
from seedbed.evaluation.task import TaskSettings

TASK = TaskSettings(use_case="classify", labels=("good", "bad"))
ROWS = [{"text": f"a seed {n} of {'rain' * (n % 3)}", "label": ("good", "bad")[n % 2]} for n in range(40)]
TESTED = [record_of(row, TASK, f"r:{n}", needs_target=True) for n, row in enumerate(ROWS)]
POOL = [record_of({"text": f"leaf {n}", "label": ("good", "bad")[n % 2]}, TASK, f"p:{n}") for n in range(9)]


def runner(task: TaskSettings = TASK, tested: list[Record] = TESTED, **how: Any) -> Runner:
    prompt = how.pop("prompt", PromptSettings(answering=task.task.answering))
    settings = SolutionSettings(model=ModelReference(name="m"), task=task, prompt=prompt)
    return Runner(lm=decoder(), settings=settings, tested=tested, **how)


def plain(made: Runner, num_shots: int = 0, **how: Any) -> Any:
    prompt = replace(made.settings.prompt, num_shots=num_shots)
    made.settings = replace(made.settings, prompt=prompt)
    return made.run(variants(POOL, prompt, made.settings.task, **how))


def test_figures_are_those_of_the_answers() -> None:
    result, solution = plain(runner())
    outputs = [one["prediction"] for one in result.answers]
    assert outputs == [one["prediction"] for one in solution.predict([row["text"] for row in ROWS])]
    assert [one["text"] for one in result.answers] == [row["text"] for row in ROWS]
    right = [output == row["label"] for output, row in zip(outputs, ROWS, strict=True)]
    assert result.score.value == pytest.approx(sum(right) / 40) and result.values == list(map(float, right))
    assert result.labels == ["good", "bad"]
    for i, label in enumerate(result.labels):
        for j, output in enumerate(result.labels):
            pairs = zip(ROWS, outputs, strict=True)
            number = sum(row["label"] == label and given == output for row, given in pairs)
            assert result.confusion is not None and result.confusion[i][j] == number


def test_batch_calibration_takes_each_labels_mean_away() -> None:
    result, solution = plain(runner(calibration="batch"), num_shots=2)
    raw, _ = plain(runner(), num_shots=2)
    assert raw.by_calibration == result.by_calibration and raw.metrics == raw.by_calibration["none"]
    assert result.metrics == result.by_calibration["batch"]
    answers = solution.answering.answer(TESTED)
    table = np.array([answer.logprobs for answer in answers])
    own = solution.settings.prompt.calibration
    assert [own[label] for label in TASK.words] == pytest.approx(table.mean(0))
    expected = [("good", "bad")[i] for i in (table - table.mean(0)).argmax(1)]
    assert [one["prediction"] for one in result.answers] == expected == [one.output for one in answers]
    assert len({*expected}) == 2


def test_draws_are_other_examples_and_orders_the_same_ones() -> None:
    prompt = PromptSettings(answering="likelihood", num_shots=4)
    found = variants(POOL, prompt, TASK, num_draws=3, num_orders=3, seed=7)
    assert [one.name for one in found] == ["draw 7", "draw 8", "draw 9", "order 1", "order 2"]
    assert len({tuple(shot.text for shot in one.pool) for one in found}) == 5
    first = {shot.text for shot in found[0].pool}
    assert all({shot.text for shot in one.pool} == first for one in found[3:])
    assert found == variants(POOL, prompt, TASK, num_draws=3, num_orders=3, seed=7)
    assert variants(POOL, prompt, TASK, seed=8)[0].pool == found[1].pool
    result, _ = plain(runner(), num_shots=4, num_draws=2, num_orders=2)
    assert list(result.to_dict()["variants"]) == ["draw 0", "draw 1", "order 1"]
    assert result.variants["draw 0"]["none"] == result.metrics
    alone, _ = plain(runner(), num_shots=4, seed=1)
    assert result.variants["draw 1"]["none"]["accuracy"].value == alone.metrics["accuracy"].value


@pytest.mark.parametrize("use_case", ["classify", "write"])
def test_a_run_that_was_killed_after_any_chunk_continues(
    use_case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two draws, with the same answers and figures; what is finished is not answered again."""
    monkeypatch.setitem(solutions.CHUNKS, "likelihood", 16)
    monkeypatch.setitem(solutions.CHUNKS, "generation", 16)
    task = TASK if use_case == "classify" else TaskSettings(use_case="write", max_new_tokens=3)
    tested = [record_of({"text": one.text, "label": one.reference}, task, one.origin) for one in TESTED]

    def run(out: Path, stop_after: int = 99) -> Any:
        lines: list[dict[str, Any]] = []

        def callback(line: Any) -> None:
            lines.append(dict(line))
            if sum("done" in one for one in lines) > stop_after:
                raise KeyboardInterrupt

        made = runner(task, tested, out=out, callback=callback)
        result = plain(made, 2, num_draws=2)[0] if use_case == "classify" else plain(made)[0]
        made.close()
        return result, lines

    result, lines = run(tmp_path / "whole")
    num_chunks = sum("done" in line for line in lines)
    assert num_chunks == (6 if use_case == "classify" else 3) and lines[-1]["done"] == lines[-1]["total"]
    names = ["answers.jsonl", "answers-1.jsonl"][: num_chunks // 3]
    files = {name: (tmp_path / "whole" / name).read_bytes() for name in names}
    for stop_after in range(num_chunks):
        out = tmp_path / f"killed-{stop_after}"
        with pytest.raises(KeyboardInterrupt):
            run(out, stop_after)
        again, lines = run(out)
        assert {file.name: file.read_bytes() for file in out.iterdir()} == files
        assert replace(again, seconds=0) == replace(result, seconds=0)
        assert sum("done" in line for line in lines) == num_chunks - stop_after - 1
        scores = [line["score"] for line in lines if "done" in line]
        assert use_case == "write" or all(0 <= score <= 1 for score in scores)


def test_answers_name_their_record_and_are_the_calibrated_ones(tmp_path: Path) -> None:
    made = runner(calibration="batch", out=tmp_path)
    result, _ = plain(made)
    made.close()
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == [one["prediction"] for one in result.answers]
    assert [line["origin"] for line in lines] == [one.origin for one in TESTED]
    assert [line["reference"] for line in lines] == [row["label"] for row in ROWS]
    assert [file.name for file in tmp_path.iterdir()] == ["answers.jsonl"]


@pytest.mark.parametrize("change", ["text", "field", "model", "prompt", "order"])
def test_other_records_or_settings_begin_anew(change: str, tmp_path: Path) -> None:
    def stop(line: Any) -> None:
        if "done" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain(runner(out=tmp_path, callback=stop))
    settings, tested, lines = TASK, list(TESTED), list[dict[str, Any]]()
    if change == "prompt":
        settings = replace(TASK, separator="\n")
    elif change == "order":
        tested = tested[::-1]
    elif change in ("text", "field"):
        fields = {**tested[3].fields, ("text" if change == "text" else "title"): "changed"}
        tested[3] = record_of(fields, TASK, "r", needs_target=True)
    made = runner(settings, tested, out=tmp_path, callback=lambda line: lines.append(dict(line)))
    if change == "model":
        made.settings = replace(made.settings, model=ModelReference(name="m", fingerprint="other"))
    plain(made)
    assert not any("resumed" in line for line in lines) and lines[-1]["done"] == 40


def test_the_time_is_expected_before_the_answers() -> None:
    lines: list[dict[str, Any]] = []
    plain(runner(callback=lambda line: lines.append(dict(line))))
    assert lines[0] == {"begun": 40}
    assert lines[1]["expected_seconds"] > 0 and lines[1]["total"] == 40


def test_chunks_of_each_way_to_answer() -> None:
    assert solutions.CHUNKS == {"likelihood": 128, "generation": 32, "head": 256}


def test_several_references_and_figures_of_texts() -> None:
    task = TaskSettings(use_case="answer", max_new_tokens=3)
    rows = [{"question": f"seed {n}?", "answers": ["one", f"{n}"][: 1 + n % 2]} for n in range(4)]
    tested = [record_of(row, task, f"r:{n}", needs_target=True) for n, row in enumerate(rows)]
    result, _ = plain(runner(task, tested))
    outputs = [one["prediction"] for one in result.answers]
    references = [row["answers"] for row in rows]
    for name in ("f1", "exact_match"):
        value = float(METRICS[name].score(references, outputs)(np.ones((1, 4)))[0])
        assert result.metrics[name].value == value
    text = TaskSettings(use_case="write", max_new_tokens=3)
    tested = [record_of({"text": "a seed"}, text, "r"), record_of({"text": "rain"}, text, "r")]
    result, _ = plain(runner(text, tested))
    assert [*result.metrics] == [*text.task.metrics, "perplexity", "bits_per_byte"] and not result.values


@pytest.mark.parametrize("use_case", ["classify", "summarize", "tag", "extract"])
def test_a_records_value_is_its_score_alone(use_case: str) -> None:
    task = TaskSettings(use_case=use_case)
    right: dict[str, Any] = {"label": "a", "texts": ["a seed grows"], "tags": ["B-A", "O"]}
    wrong: dict[str, Any] = {"label": "b", "texts": "a seed", "tags": ["O", "O"]}
    form = task.task.form
    references, outputs = (
        [right[form]] * 2,
        [wrong[form], right["texts"][0] if form == "texts" else right[form]],
    )
    metrics = weighted(task, references, outputs)
    main = metrics[task.metrics[0]]
    expected = [float(main(np.eye(2)[i : i + 1])[0]) for i in range(2)]
    assert record_values(task, references, outputs, main) == pytest.approx(expected)


def test_programs_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TaskSettings(use_case="code", max_new_tokens=2)
    metric, calls = METRICS["pass_at_1"], list[int]()

    def counted(tests: Any, programs: Any) -> Any:
        calls.append(len(programs))
        return metric.score(tests, programs)

    monkeypatch.setitem(METRICS, "pass_at_1", metric._replace(score=counted))
    rows = [{"prompt": "x = 1\n#", "test": "assert x == 1"}, {"prompt": "a", "test": "assert False"}]
    tested = [record_of(row, task, "r", needs_target=True) for row in rows]
    result, _ = plain(runner(task, tested))
    assert calls == [2] and len(result.values) == 2 and result.values[1] == 0
