"""A run with a task: answers before and after, interrupted, worse than the base's, as its solution's."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.moments import At, interrupt, kill
from tests.tunings import MOODS, Bench, weights_of, written

import seedbed
from seedbed.api.predict import predict, solution
from seedbed.api.pretrain import resume
from seedbed.base.errors import ConfigError, StoppedEarly
from seedbed.base.runtime import Runtime
from seedbed.evaluation.task import TaskSettings
from seedbed.runs.budget import affordable, end_seconds
from seedbed.runs.start import load_run
from seedbed.runs.train import Run
from seedbed.select import rehearsal
from seedbed.select.plan import Plan

BEFORE = "answering 30 held-out records of the task before the training"
AFTER = "answering 30 held-out records of the task after the training"
PLACES = ("garden", "rain", "sun")
ROWS: dict[str, list[Any]] = {
    "summarize": [
        {"text": f"a {MOODS[n % 2]} garden {n}", "summary": f"it grows {n % 7}"} for n in range(90)
    ],
    "classify": [{"text": f"a {MOODS[n % 2]} seed {n}", "label": MOODS[n % 2]} for n in range(90)],
    "translate": [{"source": f"a garden {n}", "target": f"a small {PLACES[n % 3]}"} for n in range(90)],
    "extract": [
        {"tokens": ["a", PLACES[n % 3], "of", str(n)], "tags": ["O", "B-LOC", "O", "O"]} for n in range(90)
    ],
    "answer": [
        {"question": f"what grows {n}", "context": f"a {PLACES[n % 3]}", "answers": [PLACES[n % 3], "a tree"]}
        for n in range(90)
    ],
}
MAIN = {"summarize": "rougeL", "classify": "accuracy", "extract": "entity_f1", "answer": "f1"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
        yield Bench(tmp_path_factory.mktemp("bench"))


def tuned(
    bench: Bench, task: str, out: str, *own: str, objective: str = "conversation", **options: Any
) -> Run:
    """Tune on the first 60 records; the last 30 are held out and answered in 6 tokens."""
    rows = ROWS[task]
    data = written(bench.folder / f"{task}.jsonl", rows[:60])
    held = written(bench.folder / f"{task}-held.jsonl", rows[60:])
    settings = [f"data.validation={held}", "data.validation_fraction=0.1"]
    settings += [
        "training.context_tokens=240",
        "training.batch_tokens=480",
        "training.micro_batch_tokens=240",
    ]
    chosen: Any = options.pop("task", None) or TaskSettings(use_case=task, max_new_tokens=6)
    return bench.tune(objective, out, *settings, *own, task=chosen, data=data, **{"steps": 4} | options)


def held_out(bench: Bench, task: str) -> Path:
    return bench.folder / f"{task}-held.jsonl"


@pytest.mark.parametrize("task", ROWS)
def test_a_task_is_scored_before_and_after(task: str, bench: Bench) -> None:
    run = tuned(bench, task, task)
    found = run.metrics["task"]
    assert found == json.loads((run.run / "metrics.json").read_text())["task"]
    assert found["name"] == task and found["num_records"] == 30 and found["metric"] == MAIN.get(task, "bleu")
    before = json.loads((run.run / "before.json").read_text())
    assert len(before["answers"]) == 30 and before["seconds"] > 0
    for score in found["metrics"].values():
        assert score["difference"]["value"] == pytest.approx(
            score["after"]["value"] - score["before"]["value"]
        )
        for name in ("before", "after", "difference"):
            low, high = score[name]["interval"] or [score[name]["value"]] * 2
            assert low <= score[name]["value"] <= high
    assert [one["before"] for one in found["answers"]] == before["answers"][:10]
    assert run.metrics["worked"] in ("yes", "no", "not shown", "too few to say")
    # The solution that the run leaves gives the answers that were scored.
    expected = [one["after"] for one in found["answers"]]
    made = solution(run.run)
    records = [json.loads(line) for line in held_out(bench, task).read_text().splitlines()]
    assert [one["prediction"] for one in made.predict(records)][:10] == expected
    out = bench.folder / f"{task}-answers.jsonl"
    assert predict(run.run, held_out(bench, task), out=out)["num_failed"] == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["prediction"] for line in lines][:10] == expected


@pytest.mark.parametrize("objective", ["completion", "classification"])
def test_an_encoder_decoder_and_a_head_are_scored(objective: str, bench: Bench) -> None:
    task = "summarize" if objective == "completion" else "classify"
    run = tuned(bench, task, f"{objective}-scored", objective=objective)
    found = run.metrics["task"]
    is_head = objective == "classification"  # a new one, whose answers before mean nothing
    assert ("before" in found["metrics"][found["metric"]]) is not is_head
    assert (run.run / "before.json").exists() is not is_head and not found["is_worse"]
    records = [json.loads(line) for line in held_out(bench, task).read_text().splitlines()]
    answers = [one["prediction"] for one in solution(run.run).predict(records)]
    assert answers[:10] == [one["after"] for one in found["answers"]]
    if is_head:
        assert found["metrics"]["accuracy"]["after"]["value"] == run.metrics["accuracy"]["value"]
        assert [seedbed.load(run.run).classify(row["text"]).label for row in records] == answers


def test_no_records_are_answered_where_none_are_wanted(bench: Bench) -> None:
    run = tuned(bench, "summarize", "none", "training.evaluate_records=0")
    assert "task" not in run.metrics and not (run.run / "before.json").exists()
    some = tuned(bench, "summarize", "some", "training.evaluate_records=7")
    assert some.metrics["task"]["num_records"] == 7
    texts = [row["text"] for row in ROWS["summarize"][60:]]
    places = [texts.index(one["text"]) for one in some.metrics["task"]["answers"]]
    assert places == sorted(places) != list(range(7))


def test_a_run_whose_scoring_is_interrupted_resumes(bench: Bench) -> None:
    whole = tuned(bench, "summarize", "whole")

    def stop_at(line: str) -> Any:
        return lambda said: interrupt() if said == line else None

    with pytest.raises(StoppedEarly):
        tuned(bench, "summarize", "parts", notify=stop_at(BEFORE))
    folder = bench.folder / "parts"
    assert not (folder / "before.json").exists() and not (folder / "metrics.jsonl").exists()
    with pytest.raises(KeyboardInterrupt):
        tuned(bench, "summarize", "parts", callbacks=[At("step", 2, kill)])
    before = (folder / "before.json").read_bytes()
    with pytest.raises(StoppedEarly):
        tuned(bench, "summarize", "parts", notify=stop_at(AFTER))
    assert not (folder / "metrics.json").exists()
    said: list[str] = []
    parts = resume(folder, notify=said.append)
    assert AFTER in said and BEFORE not in said and (folder / "before.json").read_bytes() == before
    assert parts.metrics == whole.metrics and weights_of(parts) == weights_of(whole)


@pytest.mark.parametrize(("rate", "differ_alike"), [(0.01, False), (0.1, True)])
def test_a_base_that_answers_better_is_kept(rate: float, differ_alike: bool, bench: Bench) -> None:
    """Its own answers are right, too, beside those that are learned; after wild steps neither is given."""
    first = tuned(bench, "answer", f"first-{rate}", steps=1)
    own = json.loads((first.run / "before.json").read_text())["answers"]
    rows = [
        row | {"answers": [row["answers"][0], answer]}
        for row, answer in zip(ROWS["answer"][60:], own, strict=True)
    ]
    held, said = written(bench.folder / "own.jsonl", rows), list[str]()
    wild = (f"training.learning_rate={rate}", f"data.validation={held}", "training.warmup_steps=0")
    run = tuned(bench, "answer", f"worse-{rate}", *wild, notify=said.append)
    found = run.metrics["task"]
    difference = found["metrics"]["f1"]["difference"]
    assert found["is_worse"] and found["metrics"]["f1"]["before"]["value"] == 1.0
    assert difference["value"] < -0.5 and (difference["interval"] is None) is differ_alike
    assert "the answers are worse than the base's, whose weights are kept" in said
    assert run.metrics["best_step"] == 0 and run.metrics["worked"] == "no"
    assert run.metrics["because"].endswith("worse. The base's own weights are kept.")
    assert run.metrics["loss"]["value"] == pytest.approx(run.metrics["before"]["loss"]["value"])
    records = [json.loads(line) for line in held.read_text().splitlines()]
    assert [one["prediction"] for one in solution(run.run).predict(records)] == own


def test_a_budget_counts_the_answers(bench: Bench) -> None:
    """Those before are part of what has passed; those at the end take as long again."""
    run = tuned(bench, "summarize", "budget", steps=None, budget_seconds=600.0)
    seconds = json.loads((run.run / "before.json").read_text())["seconds"]
    assert 0 < seconds < 600 and run.metrics["task"]["num_records"] == 30
    plan = Plan.from_dict(json.loads((run.run / "plan.json").read_text()))
    settings = load_run(run.run / "settings.toml")[0]
    assert plan is not None and settings.training.budget_seconds == 600

    def steps(scoring: float) -> int:
        how: dict[str, Any] = {"started": time.perf_counter(), "runtime": Runtime(), "scoring": scoring}
        return affordable(plan, settings, **how).training.num_steps

    assert steps(0.0) > 1.5 * steps(300.0) > 0
    with pytest.raises(ConfigError, match=r"a budget of 10\smin.* is too short"):
        steps(601.0)
    assert end_seconds(plan, 7.0) == pytest.approx(end_seconds(plan) + 7.0)
