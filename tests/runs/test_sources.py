"""The parts that a run reads: shares of a mixture, its resuming, and records that are too long."""

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.moments import At, kill

from seedbed.api.pretrain import pretrain
from seedbed.base.errors import ConfigError, DataError, SeedbedWarning
from seedbed.data.corpora import read_documents
from seedbed.data.loader import Loader
from seedbed.data.records import PairSource
from seedbed.runs.prepare import PreparedRun, prepare_run
from seedbed.runs.sources import warn_of_length
from seedbed.runs.start import run_settings
from seedbed.select import rehearsal
from seedbed.training.run_folder import RunFolder

SETTINGS = [
    *("model.d_model=16", "model.num_layers=1", "tokenizer.kind=bytes", "training.context_tokens=64"),
    *("training.batch_tokens=512", "training.precision=float32", "data.validation_fraction=0.1"),
]
SIZES = {"a.jsonl": (900, 3), "b.jsonl": (300, 9), "c": (90, 30)}  # records, and how long they are


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Three tasks of other numbers of records and other lengths."""
    for name, (number, length) in SIZES.items():
        rows = [{"prompt": f"{n}{'x' * (length + n % 5)}", "completion": name[0]} for n in range(number)]
        write(tmp_path / "data" / (name if "." in name else f"{name}/part.jsonl"), rows)
    return tmp_path / "data"


def prepared(data: Path, out: Path, *overrides: str, notify: Any = print, **how: Any) -> PreparedRun:
    own: dict[str, Any] = {"family": "gpt2", "objective": "completion"} | how
    settings, start = run_settings(str(data), overrides=[*SETTINGS, *overrides], **own)
    with RunFolder(out) as folder:
        return prepare_run(settings, start, folder, notify=notify)


def num_read(run: PreparedRun, number: int) -> Counter[int]:
    """How often the first records of a run are of each task, by the letter that is the answer."""
    loader, counts = run.loader(), Counter[int]()
    while counts.total() < number:
        counts.update(int(example.targets[0]) for example in loader.next_step())
    return counts


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.mixture_temperature=1"], (900, 300, 90)),
        (["data.mixture_limit=250"], (250, 250, 90)),
        (["data.mixture_temperature=2"], (30, 300**0.5, 90**0.5)),
        (["data.mixture_temperature=1000000000"], (1, 1, 1)),
    ],
)
def test_the_shares_of_records_follow_the_rule(
    overrides: list[str], expected: tuple[float, ...], tasks: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    run = prepared(tasks, tmp_path / "run", *overrides, notify=lines.append)
    counts = num_read(run, 2000)
    shares = [count / counts.total() for _, count in sorted(counts.items())]
    assert shares == pytest.approx([one / sum(expected) for one in expected], abs=0.02)
    (line,) = [line for line in lines if line.startswith("mixture: ")]
    sizes = [len(part.source.kept) for part in run.mixture if isinstance(part.source, PairSource)]
    assert line == "mixture: " + ", ".join(
        f"{name} {share:.0%} ({size:,} records)"
        for name, size, share in zip(SIZES, sizes, shown(sizes, overrides), strict=True)
    )
    held = run.shards.validation.num_documents
    assert held > 50 and len(run.held_out.source.order(0)) == held


def shown(sizes: list[int], overrides: list[str]) -> list[float]:
    """The shares of tasks of these sizes."""
    values = {key: float(value) for key, _, value in (each.partition("=") for each in overrides)}
    limit, temperature = (values.get(f"data.mixture_{name}") for name in ("limit", "temperature"))
    weights = [min(size, limit or size) ** (1 / (temperature or 1)) for size in sizes]
    return [weight / sum(weights) for weight in weights]


def test_without_a_mixture_records_come_as_they_are(tasks: Path, tmp_path: Path) -> None:
    run = prepared(tasks, tmp_path / "run")
    assert len(run.mixture) == 1 and run.shards.groups == ()
    counts = num_read(run, run.shards.train.num_documents)
    assert counts.total() >= run.shards.train.num_documents


def test_a_message_has_at_most_eight_tasks(tmp_path: Path) -> None:
    for n in range(10):
        rows = [{"prompt": f"{n} {i}", "completion": "a"} for i in range(20)]
        write(tmp_path / "data" / f"{n}.jsonl", rows)
    lines: list[str] = []
    prepared(tmp_path / "data", tmp_path / "run", "data.mixture_temperature=2", notify=lines.append)
    (line,) = [line for line in lines if line.startswith("mixture: ")]
    assert line.count("records)") == 8 and line.endswith(", and 2 more")


def test_a_resumed_mixture_is_an_uninterrupted_one(tasks: Path, tmp_path: Path) -> None:
    own = [*SETTINGS, "data.mixture_temperature=2", "training.checkpoint_every_steps=4"]
    how: dict[str, Any] = {"family": "gpt2", "objective": "completion", "steps": 10, "overrides": own}
    whole = pretrain(str(tasks), out=tmp_path / "whole", **how)
    with pytest.raises(KeyboardInterrupt):
        pretrain(str(tasks), out=tmp_path / "run", callbacks=[At("step", 5, kill)], **how)
    again = pretrain(str(tasks), out=tmp_path / "run", **how)
    ours, theirs = ((one.model / "model.safetensors").read_bytes() for one in (again, whole))
    assert ours == theirs and again.metrics == whole.metrics
    run = prepared(tasks, tmp_path / "other", "data.mixture_temperature=2")
    loader = run.loader()
    steps = [[each.input_ids.tolist() for each in loader.next_step()] for _ in range(7)]
    first = run.loader()
    for _ in range(3):
        first.next_step()
    resumed = Loader(run.mixture, batch_tokens=512, seed=run.settings.training.seed)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert len(first.state_dict()["parts"]) == 3
    assert [[each.input_ids.tolist() for each in resumed.next_step()] for _ in range(4)] == steps[3:]


def test_a_mixture_of_texts_or_of_one_file_is_refused(tasks: Path, tmp_path: Path) -> None:
    own = ["data.mixture_temperature=2", "data.text_field=prompt"]
    with pytest.raises(ConfigError, match="this objective learns from text, which has none; leave them out"):
        prepared(tasks, tmp_path / "run", *own, objective="causal")
    with pytest.raises(ConfigError, match=r"a\.jsonl is not a folder; leave them out"):
        prepared(tasks / "a.jsonl", tmp_path / "run", own[0])
    assert not (tmp_path / "run").exists() and not (tmp_path / ".shards").exists()


def test_a_task_without_a_record_within_the_context_is_named(tasks: Path, tmp_path: Path) -> None:
    own = ["data.mixture_temperature=2", "training.context_tokens=16"]
    words = r"^c: each of the \d+ records is longer than the context; raise training\.context_tokens, or"
    with pytest.raises(DataError, match=words):
        prepared(tasks, tmp_path / "run", *own)


@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_long_pairs_are_left_out_and_the_context_for_all_is_said(family: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n:03} {'x' * (90 if n % 10 == 0 else 9)}", "completion": "yes"} for n in range(200)]
    write(tmp_path / "a.jsonl", rows)
    with pytest.warns(SeedbedWarning) as found:
        run = prepared(tmp_path / "a.jsonl", tmp_path / "run", family=family)
    said = [str(one.message) for one in found if "longer than" in str(one.message)]
    source = run.mixture[0].source
    assert isinstance(source, PairSource) and source.num_cut == 0 < source.num_left_out
    total, held = run.shards.train.num_documents, run.shards.validation.num_documents
    longest = max(int(run.objective.example(each, 0).num_tokens) for each in source.records(0, 0))
    assert longest < 64
    start = f"{source.num_left_out} of {total} records are longer than training.context_tokens=64"
    needed = int(said[0].removeprefix(f"{start} and are left out; ").removesuffix(" would take all"))
    assert len(said) == 2 and f" of {held} held-out records are longer" in said[1]
    enough = [f"training.context_tokens={needed}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = prepared(tmp_path / "a.jsonl", tmp_path / "whole", *enough, family=family)
    assert len(whole.mixture[0].source.order(0)) == total
    with pytest.warns(SeedbedWarning, match="longer than"):
        prepared(
            tmp_path / "a.jsonl", tmp_path / "less", f"training.context_tokens={needed - 1}", family=family
        )


def test_the_positions_of_a_base_are_named_where_they_are_fewer(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n:03} {'x' * (20 if n > 150 else 5)}", "completion": "yes"} for n in range(200)]
    write(tmp_path / "a.jsonl", rows)
    with pytest.warns(SeedbedWarning, match="longer than"):
        run = prepared(tmp_path / "a.jsonl", tmp_path / "run", "training.context_tokens=16")
    sources = [part.source for part in run.mixture]
    for most, end in (
        (None, "27 would take all"),
        (27, "27 would take all"),
        (26, "network has 26 pos"),
    ):
        with pytest.warns(SeedbedWarning, match=rf"_tokens=16 and are left out; .*{end}"):
            warn_of_length(sources, run.objective, 16, max_positions=most)


def test_long_texts_with_labels_are_truncated(tmp_path: Path) -> None:
    rows = [{"text": f"{n:03} {'x' * (90 if n % 10 == 0 else 9)}", "label": n % 2} for n in range(200)]
    write(tmp_path / "a.jsonl", rows)
    with pytest.warns(SeedbedWarning) as found:
        run = prepared(tmp_path / "a.jsonl", tmp_path / "run", objective="classification")
    source = run.mixture[0].source
    assert isinstance(source, PairSource) and source.num_left_out == 0 < source.num_cut
    said = [str(one.message) for one in found if "longer than" in str(one.message)]
    assert f"{source.num_cut} of {len(source.numbers)} records are longer than" in said[0]
    assert "and are truncated; " in said[0]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": " \n"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]},
    ],
)
def test_an_empty_answer_is_refused_with_its_line(row: dict[str, Any], tmp_path: Path) -> None:
    good: dict[str, Any] = {"prompt": "b", "completion": "c"}
    if "messages" in row:
        good = {"messages": [row["messages"][0], {"role": "assistant", "content": "c"}]}
    write(tmp_path / "train.jsonl", [good] * 6 + [row])
    learns_from: Any = "conversations" if "messages" in row else "pairs"
    with pytest.raises(DataError, match=r"train\.jsonl:7: the answer is empty; give one, or leave the"):
        list(read_documents(tmp_path / "train.jsonl", learns_from=learns_from))
    if learns_from == "pairs":
        with pytest.raises(DataError, match=r"train\.jsonl:7: the answer is empty"):
            prepared(tmp_path / "train.jsonl", tmp_path / "run")


def test_the_mean_tokens_of_many_records_are_those_of_all(tmp_path: Path) -> None:
    """Of 1,024 of 5,000 records, evenly spaced by length."""
    random = np.random.default_rng(0)
    rows = [{"prompt": f"{n}{'x' * int(random.exponential(12))}", "completion": "y"} for n in range(5000)]
    write(tmp_path / "data" / "a.jsonl", rows[:4900])
    write(tmp_path / "data" / "b.jsonl", rows[4900:])
    own = ["data.mixture_temperature=1", "training.context_tokens=128", "data.validation_fraction=0.02"]
    run = prepared(tmp_path / "data", tmp_path / "run", *own)
    part = run.mixture[0]
    assert isinstance(part.source, PairSource)
    lengths = [run.objective.example(each, 0).num_tokens for each in part.source.records(0, 0)]
    assert part.weight == pytest.approx(len(part.source.kept) * float(np.mean(lengths)), rel=2e-3)
