"""`seedbed predict`: every form of file, solutions and runs, interruptions, and what is refused."""

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import TINY, stopped
from tests.task_models import decoder, headed, saved

import seedbed as package
from seedbed.api.predict import predict
from seedbed.generation.language_model import LanguageModel

ALWAYS = "always::seedbed.base.errors.SeedbedWarning"
ROWS = [{"id": n, "text": f"a seed {n}", "label": ("bad", "good")[n % 2]} for n in range(600)]


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(decoder(), tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return write(folder / "data.jsonl", "".join(f"{json.dumps(row)}\n" for row in ROWS))


@pytest.fixture(scope="module")
def solution(seedbed: Callable, model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibrated, with examples; a chunk of it has 128 records."""
    folder = tmp_path_factory.mktemp("solutions") / "solution"
    how = ["--task", "classify", "--data", data, "--num-records", 20, "--examples", data, "--num-shots", 2]
    said = seedbed("evaluate", model, *how, "--calibration", "batch", "--save", folder)
    assert said.code == 0 and f"seedbed predict {folder} FILE" in said.out, said.err
    return folder


@pytest.fixture(scope="module")
def whole(seedbed: Callable, solution: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted answers."""
    out = tmp_path_factory.mktemp("whole") / "out.jsonl"
    said = seedbed("predict", solution, data, "--out", out, "--json")
    assert said.code == 0 and said.json == {"out": str(out), "num_records": 600, "num_failed": 0}, said.err
    assert [file.name for file in out.parent.iterdir()] == ["out.jsonl"]
    return out


def test_a_record_as_it_came_with_the_answer_of_the_solution(solution: Path, whole: Path) -> None:
    found = lines_of(whole)
    assert [{k: line[k] for k in ("id", "text", "label")} for line in found] == ROWS
    assert all([*line] == ["id", "text", "label", "prediction", "score"] for line in found)
    made = package.solution(solution)
    assert made.settings.prompt.calibration and len(made.pool) == 2
    assert made.predict(ROWS) == found and {line["prediction"] for line in found} == {"good", "bad"}


@pytest.mark.filterwarnings(ALWAYS)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "a.csv", "a.json"])
def test_forms_of_files(name: str, seedbed: Callable, solution: Path, whole: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in ROWS[:5]]
    contents = {
        "txt": "\n\n".join(texts),
        "jsonl": "\n".join(json.dumps({"text": text, "a": None}) for text in texts),
        "csv": "text,score\n" + "".join(f'"{text}",7\n' for text in texts),
        "json": json.dumps([{"text": text, "a": [1]} for text in texts]),
    }
    raw = contents[name.split(".")[1]].encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    said = seedbed("predict", solution, tmp_path / name, "--out", tmp_path / "out.jsonl")
    replaces = "have the field 'score' already; the output has the new one instead" in said.err
    assert replaces == (name == "a.csv")
    assert said.code == 0, said.err
    found, expected = lines_of(tmp_path / "out.jsonl"), lines_of(whole)[:5]
    assert [(one["text"], one["prediction"]) for one in found] == [
        (x["text"], x["prediction"]) for x in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


@pytest.mark.filterwarnings(ALWAYS)
def test_every_cut_of_the_part_is_continued_to_the_same_bytes(
    seedbed: Callable, solution: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    out, content = tmp_path / "out.jsonl", whole.read_bytes()
    part, beside = tmp_path / "out.jsonl.part", tmp_path / "out.jsonl.part.json"
    begin(solution, data, out)
    about, kept = beside.read_bytes(), len(part.read_bytes())
    assert content[:kept].count(b"\n") == 128
    for size in (0, 1, kept - 1, kept, kept + 1, len(content)):
        part.write_bytes(content[:size])
        beside.write_bytes(about)
        said = seedbed("predict", solution, data, "--out", out)
        assert said.code == 0 and out.read_bytes() == content, said.err
        assert ("continuing after 128 records" in said.err) == (size >= kept)
        assert ("out.jsonl.part is damaged or missing" in said.err) == (size < kept)
        assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]
        out.unlink()


@pytest.mark.filterwarnings(ALWAYS)
def test_a_damaged_line_of_the_part_is_answered_again(
    seedbed: Callable, solution: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    out, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    begin(solution, data, out)
    part.write_bytes(part.read_bytes().replace(b'"good", "score": 0', b'"fine", "score": 1', 1))
    said = seedbed("predict", solution, data, "--out", out)
    assert said.code == 0 and "is damaged or missing; its answers begin anew" in said.err
    assert out.read_bytes() == whole.read_bytes()


def begin(solution: Path, data: Path, out: Path, **how: Any) -> None:
    """Answer the first chunk and stop."""

    def stop(line: Any) -> None:
        if "done" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(solution, data, out=out, callback=stop, **how)


@pytest.mark.filterwarnings(ALWAYS)
def test_a_finished_file_is_not_the_answer_of_a_later_job(
    seedbed: Callable, solution: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    """Where that was interrupted, and its part was removed."""
    out = write(tmp_path / "out.jsonl", whole.read_text("utf-8"))
    rows = write(
        tmp_path / "rows.jsonl", "".join(f"{json.dumps({'text': f'leaf {n}'})}\n" for n in range(200))
    )
    begin(solution, rows, out, force=True)
    assert out.read_bytes() == whole.read_bytes()
    (tmp_path / "out.jsonl.part").unlink()
    said = seedbed("predict", solution, rows, "--out", out, "--force")
    assert said.code == 0 and "continuing" not in said.err and "begin anew" in said.err
    assert [line["text"] for line in lines_of(out)] == [f"leaf {n}" for n in range(200)]


def test_a_second_command_for_the_same_file_is_refused(
    seedbed: Callable, solution: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    out, said = tmp_path / "out.jsonl", list[Any]()

    def again(line: Any) -> None:
        if line.get("done") == 128:
            said.append(seedbed("predict", solution, data, "--out", out))

    predict(solution, data, out=out, callback=again)
    assert said[0].code == 2 and "out.jsonl is being written by another process" in said[0].errors[-1]
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("change", ["data", "solution", "shots"])
def test_other_data_or_another_solution_begins_anew(
    change: str, seedbed: Callable, solution: Path, data: Path, tmp_path: Path
) -> None:
    own, rows = shutil.copytree(solution, tmp_path / "own"), shutil.copy(data, tmp_path / "data.jsonl")
    begin(own, rows, tmp_path / "out.jsonl")
    if change == "data":
        text = rows.read_text().replace("a seed 3", "a leaf 3")
        rows.write_text(text)
    elif change == "solution":
        text = (own / "solution.toml").read_text()
        (own / "solution.toml").write_text(text.replace("\\n\\n", "\\n") + "\n")
    else:
        text = (own / "shots.jsonl").read_text()
        (own / "shots.jsonl").write_text(
            text.replace('"bad"', '"swap"').replace('"good"', '"bad"').replace("swap", "good")
        )
    said = seedbed("predict", own, rows, "--out", tmp_path / "out.jsonl")
    assert said.code == 0 and "continuing" not in said.err
    expected = package.solution(own).predict([json.loads(line) for line in rows.read_text().splitlines()])
    assert lines_of(tmp_path / "out.jsonl") == expected


def test_a_signal_keeps_everything_and_has_its_exit_code(
    seedbed: Callable, solution: Path, data: Path, tmp_path: Path
) -> None:
    rows = data.read_text() * 4
    write(tmp_path / "data.jsonl", rows)
    command = [sys.executable, "-m", "seedbed", "predict", str(solution), str(tmp_path / "data.jsonl")]
    command += ["--out", str(tmp_path / "out.jsonl")]
    part = tmp_path / "out.jsonl.part"
    kept = stopped(command, part)
    assert kept and not (tmp_path / "out.jsonl").exists()
    again = seedbed(*command[3:])
    assert again.code == 0 and "continuing after" in again.err
    found = (tmp_path / "out.jsonl").read_bytes()
    assert found.startswith(kept) and len(lines_of(tmp_path / "out.jsonl")) == 2400
    assert [{k: x[k] for k in ROWS[0]} for x in lines_of(tmp_path / "out.jsonl")] == ROWS * 4


@pytest.mark.parametrize("has_tags", [True, False])
def test_words_with_and_without_tags(has_tags: bool, seedbed: Callable, tmp_path: Path) -> None:
    folder = saved(headed("tagging"), tmp_path / "model")
    words = [["Ann", "grows", "good\u00a0seed"], ["rain"]]
    text = "\n".join("".join(f"{word} O\n" if has_tags else f"{word}\n" for word in each) for each in words)
    said = seedbed("predict", folder, write(tmp_path / "a.conll", text), "--out", tmp_path / "out.jsonl")
    assert said.code == 0, said.err
    for line, each in zip(lines_of(tmp_path / "out.jsonl"), words, strict=True):
        assert line["tokens"] == each and line.get("tags") == (["O"] * len(each) if has_tags else None)
        assert line["prediction"] == [word.label for word in headed("tagging").tag(each).words]


@pytest.mark.parametrize("kind", ["classification", "tagging", "completion"])
def test_a_run_answers_what_it_was_trained_on(
    kind: str, seedbed: Callable, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the fields of its training."""
    rows: dict[str, list[dict[str, Any]]] = {
        "classification": [{"review": f"seed {n}", "stars": n % 3} for n in range(80)],
        "tagging": [{"tokens": ["seed", f"{n}"], "tags": ["O", "B-NUM"]} for n in range(80)],
        "completion": [{"ask": f"S{n} ", "say": f"{n % 7}"} for n in range(80)],
    }
    data = write(tmp_path / "rows.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows[kind]))
    fields = {"classification": ("review", "stars"), "completion": ("ask", "say")}.get(kind)
    how = ["--objective", kind, *(["--base", tiny_run] if kind == "completion" else ["--family", "bert"])]
    how += [
        part
        for name, field in zip(("input", "target"), fields or (), strict=False)
        for part in ("--set", f"data.{name}={field}")
    ]
    wanted = [setting for setting in TINY if kind != "completion" or setting.startswith("training.")]
    small = [part for setting in wanted for part in ("--set", setting)]
    said = seedbed("pretrain", data, *how, "--steps", 4, "--out", tmp_path / "run", *small)
    assert said.code == 0, said.err
    monkeypatch.chdir(tmp_path)
    said = seedbed("predict", tmp_path / "run", data)
    assert said.code == 0, said.err
    found = lines_of(tmp_path / "rows.predictions.jsonl")
    assert [{k: line[k] for k in rows[kind][0]} for line in found] == rows[kind]
    lm: LanguageModel = package.load(tmp_path / "run")
    if kind == "classification":
        expected: list[Any] = [lm.classify(row["review"]).label for row in rows[kind]]
    elif kind == "tagging":
        expected = [[word.label for word in lm.tag(row["tokens"]).words] for row in rows[kind]]
    else:
        context = lm.config.max_positions
        assert context is not None
        prompts = [row["ask"] for row in rows[kind]]
        completions = lm.generate(prompts, min(256, context // 2), temperature=0.0)
        expected = [str(one.text).strip() for one in completions]
    assert [line["prediction"] for line in found] == expected
    made = package.solution(tmp_path / "run")
    one = made.predict(["S3 "]) if kind != "tagging" else made.predict(["seed 3"])
    assert len(one) == 1 and "prediction" in one[0]


def test_what_exists_is_not_replaced_without_force(
    seedbed: Callable, solution: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    out = write(tmp_path / "out.jsonl", "mine")
    said = seedbed("predict", solution, data, "--out", out)
    assert (
        said.code == 2 and "exists; give another name, or --force" in said.err and out.read_text() == "mine"
    )
    said = seedbed("predict", solution, data, "--out", out, "--force")
    assert said.code == 0 and out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ('{"a": 1}\n', "a.jsonl:1: none of the fields a has the usual name of the text"),
        ("", "a.jsonl has no record"),
        ("[1]\n", "a.jsonl:1 is [1], not an object"),
    ],
)
def test_a_file_without_records_of_the_text_is_one_line(
    content: str, part: str, seedbed: Callable, solution: Path, tmp_path: Path
) -> None:
    said = seedbed("predict", solution, write(tmp_path / "a.jsonl", content), "--out", tmp_path / "out.jsonl")
    assert said.code in (1, 2) and part in said.errors[-1] and len(said.errors) == 1, said.err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('{"txt": "b"}', "a.jsonl:2: no field 'text'; did you mean 'txt'?"),
        ('{"text": ""}', "a.jsonl:2: the field 'text' is empty; give a text, or leave"),
        ('{"text": "' + "seed " * 300 + '"}', "a.jsonl:2 has "),
    ],
)
def test_a_record_that_cannot_be_answered_has_an_error_and_the_rest_answers(
    line: str, part: str, seedbed: Callable, solution: Path, tmp_path: Path
) -> None:
    data = write(tmp_path / "a.jsonl", f'{{"text": "a"}}\n{line}\n{{"text": "b"}}\n')
    said = seedbed("predict", solution, data, "--out", tmp_path / "out.jsonl")
    assert said.code == 0 and "1, see their `error`" in said.out, said.out
    found = lines_of(tmp_path / "out.jsonl")
    assert part in found[1].pop("error")
    assert found[1] == json.loads(line) | {"prediction": None, "score": None}
    assert [one["text"] for one in found[::2]] == ["a", "b"] and found[2]["prediction"] in ("bad", "good")
    said = seedbed("predict", solution, data, "--out", tmp_path / "out.jsonl", "--force", "--json")
    assert said.json["num_failed"] == 1 and said.json["num_records"] == 3


def test_the_field_with_the_text_may_have_another_name(
    seedbed: Callable, solution: Path, whole: Path, tmp_path: Path
) -> None:
    rows = [{"id": row["id"], "review": row["text"]} for row in ROWS[:128]]
    data = write(tmp_path / "a.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    said = seedbed("predict", solution, data, "--input", "review", "--out", tmp_path / "out.jsonl")
    assert said.code == 0, said.err
    wrong = seedbed("predict", solution, data, "--input", "reviw", "--out", tmp_path / "none.jsonl")
    assert wrong.code == 1 and "did you mean 'review'" in wrong.errors[-1], wrong.err
    assert not [file for file in tmp_path.iterdir() if file.name.startswith("none")]
    expected = [(line["prediction"], line["score"]) for line in lines_of(whole)[:128]]
    assert [(line["prediction"], line["score"]) for line in lines_of(tmp_path / "out.jsonl")] == expected


@pytest.mark.filterwarnings(ALWAYS)
def test_fields_with_the_names_of_the_output_are_warned_of_in_any_chunk(
    seedbed: Callable, solution: Path, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [{"text": f"a {n}"} for n in range(300)]
    rows[200]["score"] = rows[299]["prediction"] = 3
    data = write(tmp_path / "a.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    said = seedbed("predict", solution, data, "--out", tmp_path / "out.jsonl")
    assert said.code == 0 and "the field 'score' already" in said.err
    assert "the field 'prediction' already" in said.err and said.err.count("already;") == 2


def test_what_cannot_predict_is_refused(
    seedbed: Callable, model: Path, solution: Path, data: Path, tmp_path: Path
) -> None:
    for made, rows, out, part in (
        (model, data, "out.jsonl", "has no labels: its head is lm; evaluate it with --save"),
        (tmp_path / "none", data, "out.jsonl", "none"),
        (solution, tmp_path / "none", "out.jsonl", "does not exist"),
        (solution, data.parent, data.parent / "out.jsonl", "is among the records of"),
        (solution, data, solution / "out.jsonl", "is in the folder of"),
    ):
        said = seedbed("predict", made, rows, "--out", tmp_path / out)
        assert said.code in (1, 2) and part in said.errors[-1] and len(said.errors) == 1, said.err
    said = seedbed("predict", solution, data, "--out", data, "--force")
    assert (
        said.code == 2 and "is among the records of" in said.err and len(data.read_text().splitlines()) == 600
    )
    assert not list(tmp_path.iterdir())
