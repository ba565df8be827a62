"""Solutions: saved and opened with their model, prompt and examples."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.models.reference import randomize
from tests.task_models import decoder, headed, saved

import seedbed
from seedbed.base.errors import BundleError, DataError, SeedbedError, UsageError
from seedbed.evaluation.records import record_of
from seedbed.evaluation.solution import ModelReference, PromptSettings, Solution, SolutionSettings, of_head
from seedbed.evaluation.task import TaskSettings
from seedbed.hub.base import Base

TASK = TaskSettings(use_case="classify", labels={"0": "bad", "1": "good"}, input="review")
ROWS = [
    {"review": f"a {word}\u2028seed \u0085", "label": n % 2, "id": None} for n, word in enumerate("abcdef")
]
TEXTS = ["a c seed", "rain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(decoder(400, chat=True), tmp_path_factory.mktemp("models") / "model")


def make(folder: Path, **prompt: Any) -> Solution:
    settings = SolutionSettings(
        model=ModelReference(name=str(folder), fingerprint=Base.open(str(folder)).fingerprint),
        task=TASK,
        prompt=PromptSettings(answering="likelihood", **prompt),
    )
    pool = [record_of(row, TASK, "r", needs_target=True) for row in ROWS]
    nearest = prompt.get("shots") == "bm25"
    pool = pool if nearest else pool[: prompt.get("num_shots", 0)]
    return Solution(settings=settings, lm=seedbed.load(folder), pool=pool)


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"num_shots": 2, "calibration": {"0": -1.5, "1": 0.25}},
        {"num_shots": 2, "shots": "bm25"},
        {"num_shots": 1, "chat": True},
    ],
)
def test_an_opened_solution_answers_as_the_saved_one(
    prompt: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    made = make(folder, **prompt)
    made.save(tmp_path / "solution")
    opened = seedbed.solution(tmp_path / "solution")
    assert opened.settings == made.settings
    assert [(one.text, one.reference, one.fields) for one in opened.pool] == [
        (one.text, one.reference, one.fields) for one in made.pool
    ]
    found = opened.predict(TEXTS)
    assert found == made.predict(TEXTS)
    assert [one["review"] for one in found] == TEXTS and {one["prediction"] for one in found} <= {"0", "1"}
    opened.save(tmp_path / "solution")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["solution"]


def test_examples_and_calibration_change_the_answers(folder: Path) -> None:
    plain, shots = make(folder).predict(TEXTS), make(folder, num_shots=2).predict(TEXTS)
    assert [one["score"] for one in plain] != [one["score"] for one in shots]
    moved = make(folder, calibration={"0": 0.0, "1": 0.0} | {plain[0]["prediction"]: 99.0}).predict(TEXTS[:1])
    assert moved[0]["prediction"] != plain[0]["prediction"]


def test_the_model_is_found_beside_the_solution(folder: Path, tmp_path: Path) -> None:
    solution = tmp_path / "solution"
    make(folder).save(solution)
    saved(decoder(400, chat=True), tmp_path / "model")
    text = (solution / "solution.toml").read_text()
    (solution / "solution.toml").write_text(text.replace(str(folder), "../model"))
    assert Solution.open(solution).predict(TEXTS) == make(folder).predict(TEXTS)


def test_a_changed_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = decoder(400, chat=True)
    made = seedbed.new(other.config, tokenizer=other.tokenizer)
    randomize(made.module)
    own = tmp_path / "model"
    make(saved(made, own)).save(tmp_path / "solution")
    next(iter(made.module.parameters())).data.add_(1)
    made.save(own, force=True)
    with pytest.raises(
        BundleError, match=r"is not the one that .*solution\.toml was made with .*evaluate this"
    ):
        seedbed.solution(tmp_path / "solution")


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("solution.toml", "x = ", "solution.toml is not TOML"),
        ("solution.toml", "[model]\nname = 'x'\n", "the setting"),
        ("shots.jsonl", '{"review": "a", "label": 1}\n', "shots.jsonl has 1 of 2 shots"),
        ("shots.jsonl", '{"review": "a", "label": 1}\n' * 3, "shots.jsonl has 3 of 2 shots"),
        (
            "shots.jsonl",
            '{"review": "a", "label": 1}\n{"review": "a"}\n',
            "shots.jsonl:2: no field",
        ),
        ("shots.jsonl", "{", "shots.jsonl:1 is not JSON"),
    ],
)
def test_a_damaged_solution_is_named(
    file: str, content: str, part: str, folder: Path, tmp_path: Path
) -> None:
    make(folder, num_shots=2).save(tmp_path / "solution")
    (tmp_path / "solution" / file).write_text(content)
    with pytest.raises(SeedbedError) as error:
        seedbed.solution(tmp_path / "solution")
    assert part in str(error.value), error.value


def test_another_folder_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not a solution; give a new folder"):
        make(folder).save(tmp_path)
    with pytest.raises(UsageError, match="exists and is not a solution"):
        make(folder).save(tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("generation", [{"max_new_tokens": 3}, {"num_samples": 2}, {"top": 1}, {"top_k": -1}])
def test_wrong_settings_of_generation(generation: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SolutionSettings(
            model=ModelReference(name="m"),
            task=TASK,
            prompt=PromptSettings(answering="generation"),
            generation=generation,
        )


def test_a_head_is_a_solution_and_a_wrong_record_is_named() -> None:
    lm = headed("classification")
    made = Solution(settings=of_head(lm.config.head, ModelReference(name="m"), {}), lm=lm)
    rows = [{"sentence": "a seed", "label": "unknown"}, {"sentence": "rain"}]
    found = made.predict(rows)
    assert [one["prediction"] for one in found] == [lm.classify(row["sentence"]).label for row in rows]
    assert found[0]["label"] == "unknown"
    found = made.predict(["a", " ", "seed " * 300, {"title": "a"}, "rain"])
    wrong = (1, "record 2: the field 'text' is empty"), (2, "record 3"), (3, "record 4: none of the fields")
    for place, part in wrong:
        one = found[place]
        assert one["prediction"] is None is one["score"] and part in one["error"], one
    assert found[4] == made.predict(["rain"])[0] and [*found[0]] == ["text", "prediction", "score"]
    with pytest.raises(DataError, match="record 1 is 3, not an object"):
        made.predict([3])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="give a list of one"):
        made.predict("a text")
    with pytest.raises(UsageError, match="m has no labels: its head is lm; evaluate it with --save"):
        of_head(decoder().config.head, ModelReference(name="m"), {})


def test_a_record_without_a_field_of_the_prompt_has_an_error_and_the_rest_answers(folder: Path) -> None:
    made = make(folder)
    made.settings = replace(made.settings, task=replace(TASK, prompt="{title}: {review}"))
    made.__post_init__()
    found = made.predict([{"review": "a", "title": "b"}, {"review": "c"}])
    assert found[0]["prediction"] in ("0", "1") and found[1]["prediction"] is None
    assert "record 2: the prompt names {title}" in found[1]["error"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"calibration": {"0": 1.0}}, "the calibration and the labels differ in '1'"),
        ({"calibration": {"0": 1.0, "1": 1.0, "2": 1.0}}, "the calibration and the labels differ in '2'"),
        ({"calibration": {"0": float("nan"), "1": 1.0}}, "has a value that is not finite"),
        ({"num_shots": -1}, "num_shots=-1 is not allowed"),
        ({"labels": ("0",)}, "needs two labels or more"),
    ],
)
def test_settings_that_do_not_match_are_refused(change: dict[str, Any], part: str) -> None:
    task = replace(TASK, labels=change.pop("labels", TASK.labels))
    prompt = PromptSettings(answering="likelihood", **change)
    with pytest.raises(UsageError, match=part):
        SolutionSettings(model=ModelReference(name="m"), task=task, prompt=prompt)


def test_the_rest_of_the_folder_stays(folder: Path, tmp_path: Path) -> None:
    """A model and notes in it, and shots only where the solution has some."""
    own = tmp_path / "solution"
    make(folder, num_shots=2).save(own)
    saved(decoder(400, chat=True), own / "model")
    (own / "notes.md").write_text("mine")
    before = sorted(file.relative_to(own) for file in own.rglob("*"))
    make(folder, num_shots=1).save(own)
    assert sorted(file.relative_to(own) for file in own.rglob("*")) == before
    assert len((own / "shots.jsonl").read_text("utf-8").split("\n")) == 2
    make(folder).save(own)
    assert sorted(file.name for file in own.iterdir()) == ["model", "notes.md", "solution.toml"]
    assert (own / "notes.md").read_text() == "mine" and len(seedbed.solution(own).predict(TEXTS)) == 2


def test_shots_are_lines_of_json(folder: Path, tmp_path: Path) -> None:
    make(folder, num_shots=2).save(tmp_path / "s")
    lines = (tmp_path / "s" / "shots.jsonl").read_text("utf-8").split("\n")[:-1]
    assert [json.loads(line) for line in lines] == ROWS[:2]
