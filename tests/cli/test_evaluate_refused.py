"""`seedbed evaluate MODEL`: task files, and what does not fit, in one line that says what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import LABELLED, ROWS, write

import seedbed as package

ALWAYS = "always::seedbed.base.errors.SeedbedWarning"


TOML = """[task]
name = "tone"
use_case = "classify"
input = "review"
target = "tone"
prompt = "{input} is"
instruction = "{labels}? {input}"
separator = "\\n##\\n"
labels = {minus = "bad", plus = "good"}
metric = "macro_f1"
max_new_tokens = 5
"""


def test_a_task_file_needs_no_code(
    seedbed: Callable, task_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "task.toml").write_text(TOML)
    rows = [
        {"review": f"rain {n}", "tone": ("minus", "plus")[n % 2], "text": "t", "label": "l"}
        for n in range(30)
    ]
    data = write(tmp_path / "a.jsonl", rows)
    how = ["--task", tmp_path / "task.toml", "--data", data, "--save", tmp_path / "s", "--force"]
    for name, chat in (("decoder", False), ("chat", True)):
        found = seedbed("evaluate", task_models[name], *how, "--json").json
        assert found["task"] == "tone" and list(found["metrics"]) == ["macro_f1", "accuracy"]
        assert found["labels"] == ["minus", "plus"] and found["chat"] == chat
        made = package.solution(tmp_path / "s")
        prompts = made.answering.prompts
        assert prompts is not None and made.answering.max_new_tokens == 5
        record = made.predict([rows[0]])[0]
        assert record["prediction"] in ("minus", "plus")
    (tmp_path / "classify").write_text("a file with the name of a task")
    monkeypatch.chdir(tmp_path)
    said = seedbed("evaluate", task_models["decoder"], *LABELLED, "--data", data, "--set", "data.target=tone")
    assert said.code == 1 and "the task has no label 'minus', only 0, 1" in said.err


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("metric =", "metrics ="), "unknown setting 'metrics' in [task]; did you mean 'metric'?"),
        (("= 5", '= "5"'), 'task.max_new_tokens = "5": allowed is a whole number'),
        (("= 5", "= 0"), "max_new_tokens=0 is not allowed"),
        (
            ('"macro_f1"', '"rougeL"'),
            "the metric 'rougeL' does not fit the use case classify; allowed: accuracy",
        ),
        (('"classify"', '"clasify"'), "did you mean 'classify'?"),
        (('{minus = "bad", plus = "good"}', "3"), "task.labels = 3"),
        (('plus = "good"', 'plus = "bad"'), "the word 'bad' is that of two labels"),
        (('{minus = "bad", plus = "good"}', '["a", "a"]'), "the labels a, a have one twice"),
        (("{input} is", "is"), "name the record's text, {input}"),
        (("{input} is", "{input} {target}"), "has {target}; leave it out"),
        (("[task]", "[tasks]"), "unknown setting 'tasks'"),
        (("[task]", "[task"), "task.toml is not TOML"),
    ],
)
def test_a_wrong_task_file_is_one_line(
    change: tuple[str, str], part: str, seedbed: Callable, tested: Path, tmp_path: Path
) -> None:
    (tmp_path / "task.toml").write_text(TOML.replace(*change))
    said = seedbed("evaluate", "model", "--task", tmp_path / "task.toml", "--data", tested)
    assert said.code == 2 and part in said.errors[-1] and len(said.errors) == 1, said.err


WRONG: list[tuple[str, list[Any], str]] = [
    ("decoder", ["--num-shots", 2], "give --examples FILE"),
    ("decoder", ["--num-shots", 13, "--examples", "POOL"], "num_shots=13 is more than the 12 examples"),
    ("decoder", ["--draws", 2], "several draws or orders need shots"),
    (
        "decoder",
        ["--shots", "bm25", "--num-shots", 1, "--examples", "POOL", "--orders", 2],
        "several draws or",
    ),
    ("decoder", ["--chat"], "this model has no chat template"),
    ("decoder", ["--set", "task.metric=rougeL"], "the metric 'rougeL' does not fit the use case classify"),
    (
        "decoder",
        ["--set", "task.metrics=accuracy"],
        "--set task.metrics: unknown here; did you mean 'metric'?",
    ),
    ("decoder", ["--set", "data.inputs=text"], "--set data.inputs: unknown here; did you mean 'input'?"),
    ("decoder", ["--set", "tasks.metric=accuracy"], "--set tasks: unknown here; did you mean 'task'?"),
    ("decoder", ["--set", "task.max_new_tokens=x"], "allowed is a whole number"),
    (
        "decoder",
        ["--set", "data.input=title"],
        "tested.jsonl:1: no field 'title'; its fields are text, label",
    ),
    ("decoder", ["--set", "generation.top=1"], "there is no setting 'top' of an answer; did you mean"),
    ("decoder", ["--set", "generation.num_samples=2"], "generation.num_samples is not allowed"),
    ("decoder", ["--labels", "0"], "tested.jsonl:2: the task has no label '1', only 0"),
    ("decoder", ["--labels", "0=a,1"], "--labels: '1' has no word"),
    ("decoder", ["--labels", "0=a,1=a"], "the word 'a' is that of two labels"),
    ("decoder", ["--prompt", "Label:"], "name the record's text, {input}"),
    ("decoder", ["--prompt", "{input} {target}"], "has {target}; leave it out"),
    ("decoder", ["--prompt", "{input} {label}"], "the prompt names {label}, which is the answer of"),
    (
        "decoder",
        ["--prompt", "{title} {input}"],
        "tested.jsonl:1: the prompt names {title}, but the record has",
    ),
    ("decoder", ["--answering", "head"], "is not answered by this model's head (lm)"),
    ("decoder", ["--answering", "generation", "--calibration", "batch"], "is for labels by likelihood"),
    (
        "decoder",
        ["--examples", "ONE", "--num-shots", 1],
        "tested.jsonl:1: the examples have no label '0', only 1",
    ),
    ("decoder", ["--references", "POOL"], "--references belongs to --predictions; leave it out"),
    ("decoder", ["--save", "FOLDER"], "exists and is not a solution; give a new folder"),
    ("tagging", [], "this model has a tagging head, so it cannot answer the task classify by prompt"),
    (
        "classification",
        ["--task", "summarize", "--set", "data.target=text"],
        "cannot answer the task summarize",
    ),
    ("classification", ["--labels", "", "--num-shots", 1, "--examples", "POOL"], "answers without examples"),
    (
        "small",
        ["--prompt", "{input} {input} {input} {input}"],
        "tested.jsonl:1 has 36 tokens with its prompt",
    ),
]


@pytest.mark.parametrize(("model", "options", "part"), WRONG)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    model: str,
    options: list[Any],
    part: str,
    seedbed: Callable,
    task_models: dict[str, Path],
    tested: Path,
    pool: Path,
    tmp_path: Path,
) -> None:
    one = write(tested.with_name("one.jsonl"), [{"text": "x", "label": 1}, {"text": "y", "label": 1}])
    named = {"POOL": pool, "ONE": one, "FOLDER": tested.parent}
    how = ["--task", "classify", "--data", tested, "--out", tmp_path / "out"]
    before = sorted(tested.parent.iterdir())
    said = seedbed("evaluate", task_models[model], *how, *(named.get(option, option) for option in options))
    assert said.code in (1, 2) and part in said.errors[-1] and len(said.errors) == 1, said.err
    assert sorted(tested.parent.iterdir()) == before
    assert not [file for file in tmp_path.rglob("*.*") if ".part" not in file.name]


def test_what_would_be_lost_is_refused_unless_forced(
    seedbed: Callable, task_models: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    data = write(tmp_path / "data" / "a.jsonl", ROWS[:6])
    how = ["evaluate", task_models["decoder"], *LABELLED, "--data", data]
    out, save = tmp_path / "out", tmp_path / "s"
    assert seedbed(*how, "--out", out, "--save", save).code == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.md").write_text("mine")
    answers = (out / "answers.jsonl").stat().st_mtime_ns
    for options, part in (
        (["--out", out], "has a finished evaluation; give a new folder, or --force"),
        (["--save", save], "has a solution; give a new folder, or --force"),
        (["--out", tmp_path / "other", "--force"], "exists and is not the folder of an evaluation"),
        (["--out", data, "--force"], "exists and is not the folder of an evaluation"),
        (["--save", tmp_path / "other", "--force"], "exists and is not a solution"),
        (["--out", tmp_path / "new", "--save", tmp_path / "new"], "is --out"),
        (["--out", tmp_path / "new", "--save", tmp_path / "new" / "s"], "or in it; give each its own folder"),
    ):
        said = seedbed(*how, *options)
        assert said.code == 2 and part in said.errors[-1] and len(said.errors) == 1, said.err
    (data.parent / "answers.jsonl").touch()
    said = seedbed(*how, "--out", data.parent)
    assert said.code == 2 and "is in the folder" in said.errors[-1], said.err
    assert (out / "answers.jsonl").stat().st_mtime_ns == answers and not (tmp_path / "new").exists()
    said = seedbed(*how, "--out", out, "--save", save, "--force")
    assert said.code == 0 and (out / "answers.jsonl").stat().st_mtime_ns != answers, said.err


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (
            [{"text": "a", "label": 1}, {"text": "b", "label": 1}],
            "a.jsonl has one label, '1'; give records of",
        ),
        ([{"text": "a", "label": 1}, {"text": "", "label": 0}], "a.jsonl:2: the field 'text' is empty"),
        ([{"text": "a", "label": 1}, {"text": "b", "label": ""}], "a.jsonl:2: the field 'label' is ''"),
        ([{"text": "a", "label": 1}, {"text": "b"}], "a.jsonl:2: no field 'label'"),
        ([{"text": "a"}], "a.jsonl:1: none of the fields text has the usual name of the answer"),
        ([{"text": "a", "label": 0}, {"text": "rain " * 300, "label": 1}], "a.jsonl:2 has 606 tokens"),
    ],
)
def test_a_wrong_record_is_named(
    rows: list[Any], part: str, seedbed: Callable, task_models: dict[str, Path], tmp_path: Path
) -> None:
    data = write(tmp_path / "a.jsonl", rows)
    said = seedbed("evaluate", task_models["decoder"], "--task", "classify", "--data", data)
    assert said.code in (1, 2) and part in said.errors[-1] and len(said.errors) == 1, said.err


def test_texts_with_and_without_a_reference_are_not_mixed(
    seedbed: Callable, task_models: dict[str, Path], tmp_path: Path
) -> None:
    data = write(
        tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": ""}]
    )
    said = seedbed("evaluate", task_models["decoder"], "--task", "write", "--data", data)
    assert said.code == 1 and "a.jsonl:2 has no reference, and others have one" in said.errors[-1]


@pytest.mark.filterwarnings(ALWAYS)
def test_what_has_no_effect_is_said(
    seedbed: Callable, task_models: dict[str, Path], tested: Path, pool: Path
) -> None:
    how = [*LABELLED, "--data", tested, "--num-records", 4]
    said = seedbed("evaluate", task_models["chat"], *how, "--chat", "--prompt", "{input}")
    assert said.code == 0 and "the prompt has no effect in a chat; give the instruction instead" in said.err
    said = seedbed("evaluate", task_models["decoder"], *how, "--instruction", "{input}")
    assert said.code == 0 and "the instruction has no effect without a chat" in said.err
    said = seedbed("evaluate", task_models["small"], *how, "--examples", pool, "--num-shots", 3)
    assert said.code == 0 and "has no room for all 3 examples" in said.err and "fewer shots" in said.out
