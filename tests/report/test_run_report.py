"""The page of a run and of a demo: what it says, what it survives, and that it needs nothing but itself."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import harmonic_mean
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seedbed.base.errors import HardwareError, UsageError
from seedbed.report.run_files import BITS, read_run
from seedbed.report.run_report import render, write_report

MOST_BYTES = 500_000


@pytest.fixture
def demo(tmp_path: Path, folders: ModuleType) -> Path:
    return Path(folders.write_demo(tmp_path / "demo"))


@pytest.fixture
def run(tmp_path: Path, folders: ModuleType) -> Path:
    return Path(folders.write_run(tmp_path / "base"))


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def speeds(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["tokens_per_second"] for line in lines if line["kind"] == "step"]


def test_the_demo_answers_on_its_first_screen(demo: Path, read_page: Callable[[str], Any]) -> None:
    page = read_page(write_report(demo).read_text(encoding="utf-8"))
    (heading,) = page.texts["h1"]
    assert re.search(r"Transformer .*\b0\.22 bits per byte less .*LSTM", plain(heading))
    answers = plain("".join(page.texts["dl"][0]))
    assert re.search(r"Yes.*frequencies.*1\.72 bits per byte.*2 min 15 s", " ".join(answers.split()))
    lstm, transformer = (harmonic_mean(speeds(demo / "runs" / name)) for name in ("lstm", "transformer"))
    assert {f"{lstm:,.0f}", f"{transformer:,.0f}"} <= set(page.texts["td"])
    findings = [
        "Transformer is ahead at equal tokens and at equal time",
        "Held out of the data: 449",
        r"memory -1% to \+3%, time -4% to \+5%",
        r"\b53% .*temperature 0\b.*\b0% .*temperature 1\.2\b",
        "model",
        r"\b2 of 10 settings",
        "(?i)commands",
        "(?i)words",
    ]
    for fact, heading in zip(findings, page.texts["h2"], strict=True):
        assert re.search(fact, plain(heading)), heading


def test_a_run_alone(run: Path, read_page: Callable[[str], Any]) -> None:
    page = read_page(write_report(run).read_text(encoding="utf-8"))
    assert re.match(r"base .*\b1\.82 bits per byte\b", plain(page.texts["h1"][0]))
    assert "Measured against the plan: memory +3%, time +3%" in page.texts["h2"]
    again = "seedbed pretrain builtin:prose --settings base/settings.toml --out again/base"
    assert [text for text in page.texts["code"] if again in text] == [f"{again}\nseedbed report base"]


def test_captions_name_the_file_and_the_command(
    demo: Path, run: Path, read_page: Callable[[str], Any]
) -> None:
    assert "From metrics.jsonl by seedbed report demo." in read_page(render(demo)).words
    assert "From plan.json and metrics.jsonl by seedbed report base." in read_page(render(run)).words


def test_the_best_of_each_column_is_bold(demo: Path, read_page: Callable[[str], Any]) -> None:
    page = read_page(render(demo))
    assert {"1.725", "396", "53"} <= set(page.texts["b"]) and "412" not in page.texts["b"]


def test_the_page_is_the_same_again_and_replaces_the_old_one(demo: Path) -> None:
    first = write_report(demo).read_bytes()
    assert write_report(demo).read_bytes() == first
    assert sorted(path.name for path in demo.iterdir()) == [
        "demo.json",
        "report.html",
        "runs",
        "samples.json",
    ]


def test_the_page_needs_nothing_but_itself(demo: Path, read_page: Callable[[str], Any]) -> None:
    text = render(demo)
    page = read_page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "use", "image"}
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "xlink:href", "data", "action", "style"} & attributes.keys(), tag
        assert not any(name.startswith("on") for name in attributes), tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    style = "".join(page.texts["style"])
    assert "url(" not in style and "@import" not in style
    assert not re.search(r"https?://|//[a-z]", text)
    policy = dict(page.elements)["meta"]
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in page.elements)
    assert policy is not None


def test_every_id_is_unique_and_pictures_have_titles(demo: Path, read_page: Callable[[str], Any]) -> None:
    page = read_page(render(demo))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [attributes for tag, attributes in page.elements if tag == "svg" and "role" in attributes]
    labels = [attributes.get("aria-labelledby") for attributes in pictures]
    assert labels and None not in labels and set(labels) <= set(ids)


@pytest.mark.parametrize("lost", ["metrics.jsonl", "plan.json", "settings.toml", "model/README.md"])
@pytest.mark.parametrize("damage", [None, b"", b"{\xff\x00", b"[1, 2", b"[]\n5\nnull\n", b"NaN", b"{}\n" * 3])
def test_a_file_may_be_missing_or_damaged(
    run: Path, read_page: Callable[[str], Any], lost: str, damage: bytes | None
) -> None:
    if damage is None:
        (run / lost).unlink()
    else:
        (run / lost).write_bytes(damage)
    page = read_page(write_report(run).read_text(encoding="utf-8"))
    assert page.texts["h1"]
    if damage is None:
        assert any(text.startswith(f"base: {lost} does not exist") for text in page.texts["li"])
    elif lost == "plan.json" and damage != b"{}\n" * 3:
        assert any(text.startswith("base: plan.json ") for text in page.texts["li"])


def test_a_run_that_has_only_just_begun(run: Path, read_page: Callable[[str], Any]) -> None:
    for name in ("metrics.jsonl", "plan.json"):
        (run / name).unlink()
    shutil.rmtree(run / "model")
    page = read_page(render(run))
    assert re.match("Not evaluated", page.texts["h1"][0])
    assert "Not yet" in page.words and "No step" in page.words


def test_a_run_between_its_steps(run: Path, folders: ModuleType, read_page: Callable[[str], Any]) -> None:
    lines = folders.metrics()[:30]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "st')
    (run / "plan.json").write_text(json.dumps(folders.plan()))
    page = read_page(render(run))
    assert re.search(r"base: .*\b30 of 400\b", page.words)
    assert any("Planned" in text and "%" not in text for text in page.texts["h2"])
    assert any("Training loss" in text for text in page.texts["h2"])


def test_steps_that_a_resumed_run_did_again_count_once(
    run: Path, folders: ModuleType, read_page: Callable[[str], Any]
) -> None:
    lines = folders.metrics()
    again = [*lines[:50], {"kind": "resume", "step": 30, "problems": []}, *lines[30:]]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in again))
    resumed = render(run)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert resumed == render(run)


def test_every_string_of_every_file_is_escaped(
    tmp_path: Path, folders: ModuleType, read_page: Callable[[str], Any]
) -> None:
    evil = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    name = "<script>x"
    root = tmp_path / "<b>project"
    planned = folders.plan(bytes={evil: 5_000_000}, hardware={evil: evil})
    run = folders.write_run(root / "runs" / name, planned=planned, card=f"# {evil}\n\n{evil}\n")
    (run / "settings.toml").write_text(f"[data]\ntrain = {json.dumps(evil)}\n{json.dumps(evil)} = 1\n")
    rows = [{"run": evil, "temperature": 1, "text": evil}, {"run": name, "temperature": 1, "text": evil}]
    (root / "samples.json").write_text(json.dumps({"prompt": evil + "\ud800", "rows": rows}))
    (root / "demo.json").write_text(json.dumps({"titles": {name: evil}}))
    page = read_page(write_report(root).read_text(encoding="utf-8"))
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert page.words.count("<script>alert(1)</script>") >= 12
    assert evil in page.texts["h1"][0]


def test_a_card_is_shown_without_its_metadata(run: Path, read_page: Callable[[str], Any]) -> None:
    page = read_page(render(run))
    assert (
        "A language model trained from scratch by seedbed. It is the **best on validation**."
        in page.texts["p"]
    )
    assert "builtin:prose, fingerprint 9f2c81d0a4" in page.texts["td"] and "library_name" not in page.words
    (run / "model" / "README.md").write_text("---\nnever closed\n# Name\n")
    assert "never closed" in read_page(render(run)).words


def test_many_lines_of_an_answer_are_counted(tmp_path: Path, folders: ModuleType, read_page: Any) -> None:
    for index in range(7):
        folders.write_run(tmp_path / "many" / "runs" / f"run-{index}")
    said = read_page(render(tmp_path / "many")).texts["dd"]
    assert sum("frequencies" in text for text in said) == 5 and "And 2 more." in said


def test_large_folders_stay_small_pages(tmp_path: Path, folders: ModuleType) -> None:
    root = tmp_path / "large"
    text = "a word and " * 3_000
    for index in range(7):
        lines = folders.metrics(num_steps=4_000, evaluate_every=8, seed=index)
        folders.write_run(
            root / "runs" / f"run-{index}", lines, num_steps=4_000, card=f"# Card\n\n{text * 5}\n"
        )
    rows = [{"run": f"run-{i % 7}", "temperature": i, "text": text} for i in range(300)]
    (root / "samples.json").write_text(json.dumps({"prompt": "a", "rows": rows}))
    assert write_report(root).stat().st_size < MOST_BYTES


def test_a_demo_is_far_below_the_limit(demo: Path) -> None:
    assert write_report(demo).stat().st_size < 100_000


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "demo" / "runs" / "empty").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"demo contains no run: .* a project's has runs/NAME"):
        write_report(tmp_path / "demo")
    with pytest.raises(UsageError, match=r"dem does not exist; did you mean 'demo'"):
        write_report(tmp_path / "dem")
    with pytest.raises(UsageError, match="away does not exist"):
        write_report(tmp_path / "far" / "away")


def test_a_page_that_cannot_be_written_is_refused(run: Path) -> None:
    (run / "report.html").mkdir()
    with pytest.raises(HardwareError, match=r"cannot write .*report\.html"):
        write_report(run)


def test_settings_that_differ_come_first(demo: Path, run: Path, read_page: Callable[[str], Any]) -> None:
    page = read_page(render(demo))
    (first,) = [text for text in page.texts["h2"] if "settings" in text]
    differing, everything = [text for text in page.texts["table"] if text.strip().startswith("Setting")]
    assert re.search(r"\b2 of 10 settings", first)
    assert differing.count("lstm") == 1 and "num_steps" not in differing
    assert "All 10 settings" in page.texts["summary"] and "training.num_steps" in everything
    alone = [text for text in read_page(render(run)).texts["h2"] if "settings" in text]
    assert alone == ["10 settings, defaults included"]


def test_a_run_without_settings_has_no_command_of_its_own(run: Path, read_page: Callable[[str], Any]) -> None:
    (run / "settings.toml").unlink()
    assert not any("seedbed pretrain" in text for text in read_page(render(run)).texts["code"])


def test_the_demo_that_made_a_project_is_named(demo: Path, read_page: Callable[[str], Any]) -> None:
    def first(page: str) -> str:
        (shown,) = [text for text in read_page(page).texts["pre"] if "seedbed demo --" in text]
        return str(shown).splitlines()[0]

    assert first(render(demo)) == "seedbed demo --budget 150s --out demo"
    (demo / "families.json").write_text(json.dumps({"models": [{"title": "A"}]}))
    assert first(render(demo)) == "seedbed demo --families --budget 150s --out demo"


def test_measurements_of_the_machine_are_words(
    run: Path, folders: ModuleType, read_page: Callable[[str], Any]
) -> None:
    speeds = [{"precision": "float32", "num_tokens": 768, "flops_per_second": 7.89e10}, {"precision": "int8"}]
    hardware = folders.HARDWARE | {"matmuls": speeds}
    (run / "plan.json").write_text(json.dumps(folders.plan(hardware=hardware)))
    cells = read_page(render(run)).texts["td"]
    both = "precision float32, num_tokens 768, flops_per_second 78,900,000,000; precision int8"
    assert {both, "24.0\u00a0GiB"} <= set(cells)
    assert not any("{" in cell or "[" in cell for cell in cells) and "none" in cells  # there are no GPUs


def test_a_classifier_is_counted_in_labels(
    run: Path, folders: ModuleType, read_page: Callable[[str], Any]
) -> None:
    lines = folders.metrics()
    for line in lines:
        if line["kind"] == "evaluation":
            line |= {"bits_per_byte": None, "accuracy": 0.8, "accuracy_interval": [0.71, 0.866]}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings_file = run / "settings.toml"
    settings_file.write_text(settings_file.read_text().replace('"causal"', '"classification"'))
    figures = json.loads((run / "metrics.json").read_text()) | {"majority_share": {"value": 0.5}}
    names = [f"kind {n}" for n in range(20)]
    counts = [[100 - n if n == m else int(m == n + 1) * 7 for m in range(20)] for n in range(20)]
    figures |= {"confusion": {"labels": names, "counts": counts}}
    (run / "metrics.json").write_text(json.dumps(figures))
    page = read_page(render(run))
    assert "Most often confused: kind 0 as kind 1, 7 of 107 times" in page.texts["h2"]
    assert "The 12 most frequent of 20 labels." in page.words and "kind 11" in page.texts["th"]
    assert "kind 13" not in page.texts["th"] and "the most frequent label alone: 50.0%" in page.words
    assert "nats per label" in page.words and "per token" not in page.words
    assert re.match("base gives 80.0% of the held-out records", page.texts["h1"][0])
    assert any("80.0 ±7.8" in text for text in page.texts["td"])
    drawn = [attributes for tag, attributes in page.elements if tag == "path"]
    assert any("whisker" in (attributes.get("class") or "") for attributes in drawn)
    assert any("Accuracy" in text for text in page.texts["figcaption"])


def test_a_relative_folder_is_called_by_its_name(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = render(demo)
    monkeypatch.chdir(demo)
    assert render(Path()) == page


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.one_of(st.integers(-(10**40), 10**40), st.floats(), st.just(10**400), JSON)
LINES = st.fixed_dictionaries(
    {"kind": st.sampled_from(["step", "evaluation", "resume", "other"]), "step": st.integers(-3, 10**20)},
    optional=dict.fromkeys(
        ("loss", "bits_per_byte", "tokens", "seconds", "tokens_per_second", "peak_fraction", "interval"),
        NUMBERS,
    ),
)
SCORE = st.fixed_dictionaries({}, optional={"value": NUMBERS, "interval": JSON})
FIGURES = JSON | st.fixed_dictionaries(
    {"worked": st.sampled_from(["yes", "no", "?"])},
    optional=dict.fromkeys(("majority_share", "macro_f1", "before", "because"), JSON | SCORE)
    | {"confusion": st.fixed_dictionaries({"labels": JSON, "counts": st.lists(st.lists(NUMBERS))})},
)
PLANS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("parameters", "peak_bytes", "seconds", "bytes", "measured", "hardware", "flops"), NUMBERS
    )
    | {"measured": st.dictionaries(st.sampled_from(["peak_bytes", "seconds"]), NUMBERS)},
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINES, max_size=8),
    plan=PLANS | JSON,
    samples=JSON,
    rows=st.lists(JSON, max_size=3),
    figures=FIGURES,
)
def test_no_file_makes_a_traceback(
    tmp_path: Path,
    read_page: Callable[[str], Any],
    lines: Any,
    plan: Any,
    samples: Any,
    rows: Any,
    figures: Any,
) -> None:
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "plan.json").write_text(json.dumps(plan))
    (run / "metrics.json").write_text(json.dumps(figures))
    (tmp_path / "demo.json").write_text(json.dumps(samples))
    (tmp_path / "samples.json").write_text(json.dumps({"prompt": samples, "rows": rows}))
    text = render(tmp_path)
    text.encode("utf-8")
    read_page(text)
    # What cannot be drawn must not be drawn: no coordinate is NaN or infinite.
    assert not re.search(r'="[^"]*\b(nan|inf)\b', text)


def test_training_loss_has_the_training_text_s_tokens_per_byte(
    run: Path, folders: ModuleType, read_page: Callable[[str], Any]
) -> None:
    """A note of 500 bytes that was held out converted the loss of 23 MB."""
    files = read_run(run)
    bits = files.steps["loss"] * folders.TRAINING_BITS_PER_NAT
    assert files.training(BITS) == pytest.approx(bits, rel=1e-5)
    assert files.held_out(BITS) == pytest.approx(files.evaluations["loss"] * folders.BITS_PER_NAT)
    warning = "303 held-out tokens of text are too few for a useful figure"
    (run / "data.json").write_text(json.dumps(folders.DATA | {"warning": warning, "validation_bytes": 500}))
    page = read_page(write_report(run).read_text(encoding="utf-8"))
    assert any("500" in each and "too little for a useful" in each for each in page.texts["h2"])
    assert any(warning in each for each in page.texts["p"])
    assert {"12", "1: paper.pdf", "3"} <= set(page.texts["td"])
