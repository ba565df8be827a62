"""Answer new records: with a solution, or with a model that was trained on labels or answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from seedbed.base.arguments import path_of
from seedbed.base.errors import DataError, SeedbedWarning, UsageError
from seedbed.base.settings import read_toml, to_tree
from seedbed.base.signals import StopSignals
from seedbed.data.files import source_files
from seedbed.evaluation.journal import Journal, chunks, json_line, require_absent
from seedbed.evaluation.records import Record, read_records
from seedbed.evaluation.runner import SAVED
from seedbed.evaluation.solution import ModelReference, Solution, of_answers, of_head
from seedbed.generation.loading import load
from seedbed.hub.base import Base
from seedbed.hub.locate import SOLUTION

RUN = "settings.toml"


def solution(path: str | Path) -> Solution:
    """A solution's folder, or a run's or bundle's whose model has labels or was trained on answers.

    Errors: UsageError for a model that needs a task and a prompt; BundleError for a damaged folder.
    """
    folder = path_of("solution", path).expanduser()
    if (folder / SOLUTION).is_file():
        return Solution.open(folder)
    run = read_toml(folder / RUN) if (folder / RUN).is_file() else {}
    data, objective = run.get("data", {}), run.get("objective", {}).get("name")
    fields = {key: data[key] for key in ("input", "target") if isinstance(data.get(key), str)}
    if data.get("form") == "alpaca":
        raise UsageError(
            f"{path} was trained on instructions with an input, which are several fields of a record; "
            "evaluate it with --task, --prompt and --save, and predict with that"
        )
    model, lm = ModelReference(name=str(path), fingerprint=Base.open(str(path)).fingerprint), load(str(path))
    if objective != "completion":
        return Solution(settings=of_head(lm.config.head, model, fields), lm=lm)
    return Solution(settings=of_answers(model, fields, chat=False), lm=lm)


def predict(
    path: str | Path,
    data: str | Path,
    *,
    out: str | Path,
    force: bool = False,
    input: str | None = None,
    callback: Callable[[Mapping[str, Any]], Any] = lambda line: None,
) -> dict[str, Any]:
    """Answer every record of a file or folder with `solution(path)`, in JSON Lines.

    A line is the record as it came, with `prediction` and `score` added; one that cannot be answered has
    neither, and `error` says why. `input` is the field with the text where the solution does not know it.
    Memory does not grow with the file. The file `out` is written as `out`.part until it is whole; an
    interrupted call is continued by the same one, and writes the same bytes as one that was not. Errors:
    UsageError for a file that exists, unless `force`, and for one that another process writes; DataError for
    data that cannot be read.
    """
    target = path_of("out", out)
    require_absent(target, force=force)
    files = source_files(data)
    place = Path(data).resolve()
    if target.resolve() in (place, *map(Path.resolve, files)) or place in target.resolve().parents:
        raise UsageError(f"{target} is among the records of {data}; write the answers to another place")
    if target.resolve().parent == Path(path).expanduser().resolve():
        raise UsageError(f"{target} is in the folder of {path}; write the answers to another place")
    made = solution(path)
    task = made.settings.task if input is None else replace(made.settings.task, input=input)
    identity = {
        "solution": to_tree(replace(made.settings, task=task)),
        "shots": [{**shot.fields} for shot in made.pool],
        "data": {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files},
    }
    found = read_records(data, task, needs_target=False, lenient=True)
    first = list(islice(found, made.chunk))
    if all(record.problem for record in first):
        raise DataError(f"{first[0].problem} (none of the first {len(first)} records can be answered)")
    callback({"begun": None})
    with closing(Journal(target, identity)) as journal:
        if journal.num_done:
            callback({"resumed": journal.num_done})
        names: set[str] = set()
        with StopSignals(SAVED) as signals:
            for some in chunks(islice(chain(first, found), journal.num_done, None), made.chunk):
                names = _warn_of_names(names, some)
                lines = list(map(json_line, made.answered(some)))
                with signals.hold():
                    journal.append(lines)
                callback({"done": journal.num_done})
        journal.finish()
        num_failed = sum(line["prediction"] is None and "error" in line for line in journal.lines())
        journal.forget()
        return {"out": str(target), "num_records": journal.num_done, "num_failed": num_failed}


def _warn_of_names(known: set[str], records: Sequence[Record]) -> set[str]:
    """Warn once of each field of records that the output has, too."""
    own = {"prediction", "score"} & {name for record in records for name in record.fields}
    for name in sorted(own - known):
        warnings.warn(
            f"the records have the field {name!r} already; the output has the new one instead",
            SeedbedWarning,
            stacklevel=3,
        )
    return known | own
