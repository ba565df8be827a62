"""A run with a task: the answers of its model to held-out records, before and after the training."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from seedbed.base.files import write_file
from seedbed.base.notices import Notify
from seedbed.base.runtime import derive_seed
from seedbed.evaluation.metrics.paired import compared
from seedbed.evaluation.records import Record
from seedbed.evaluation.result import Result, plain
from seedbed.evaluation.runner import Runner, Variant, references_of, weighted, with_intervals
from seedbed.evaluation.solution import (
    ModelReference,
    PromptSettings,
    SolutionSettings,
    of_answers,
    of_head,
)
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel
from seedbed.models.family import Network
from seedbed.runs.prepare import PreparedRun
from seedbed.runs.task_data import held_out_records, run_corpus
from seedbed.training.run_folder import RunFolder

BEFORE = "before.json"
GENERATED, CHOSEN = 50, 500  # records, where answers are generated, and where a label is chosen
SHOWN = 10  # answers side by side
Answers = list[Any]


def solution_settings(prepared: PreparedRun, model: ModelReference) -> SolutionSettings | None:
    """How the model of a run answers records; None where a record's text is not in one field."""
    data, learns_from = prepared.settings.data, prepared.objective.learns_from
    task, head = prepared.settings.task, prepared.config.head
    if learns_from == "text" or (task is None and data.form == "alpaca"):
        return None
    by_head, chat = learns_from in ("labels", "tags"), learns_from == "conversations"
    if task is None:
        named = {"input": data.input, "target": data.target}
        fields = {name: value for name, value in named.items() if value is not None}
        return of_head(head, model, fields) if by_head else of_answers(model, fields, chat=chat)
    prompt = PromptSettings(answering="head" if by_head else task.task.answering, chat=chat)
    return SolutionSettings(model=model, task=task, prompt=prompt)


def scored_records(prepared: PreparedRun) -> list[Record]:
    """The held-out records of the task that are answered: a seeded sample in their order."""
    settings = prepared.settings
    if settings.task is None or settings.training.evaluate_records == 0:
        return []
    learns_from, shape = prepared.objective.learns_from, prepared.config.shape
    known = held_out_records(run_corpus(settings, learns_from=learns_from, shape=shape)[0])
    found = [known[number] for number in prepared.held_out.source.order(0)]
    settings_of = solution_settings(prepared, ModelReference(name=""))
    assert settings_of is not None
    usual = GENERATED if settings_of.prompt.answering == "generation" else CHOSEN
    most = settings.training.evaluate_records or usual
    if len(found) <= most:
        return found
    chosen = random.Random(derive_seed(settings.training.seed, "task")).sample(range(len(found)), most)
    return [found[number] for number in sorted(chosen)]


def score_before(prepared: PreparedRun, notify: Notify) -> float:
    """Answer the records with the base, and keep the answers in the run's folder -> the seconds it took.

    Nothing is done for a new head, whose answers mean nothing, or where the answers are there already.
    """
    base = prepared.start.base
    if base is None or prepared.objective.head_kind is not None:
        return 0.0
    if (found := read_before(prepared.folder)) is not None:
        return float(found["seconds"])
    records = scored_records(prepared)
    if not records:
        return 0.0
    notify(f"answering {len(records):,} held-out records of the task before the training")
    result = _answered(prepared, prepared.network(), records)
    content = {"seconds": result.seconds, "answers": [one["prediction"] for one in result.answers]}
    write_file(prepared.folder.path / BEFORE, json.dumps(content, ensure_ascii=False).encode())
    return result.seconds


def read_before(folder: RunFolder) -> Mapping[str, Any] | None:
    """The answers of the base that a run has kept."""
    try:
        found = json.loads((folder.path / BEFORE).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"seconds", "answers"} <= found.keys() else None


def score_after(prepared: PreparedRun, module: Network, notify: Notify) -> dict[str, Any] | None:
    """The scores of the module's answers beside those before, and some answers; None without a task.

    Each metric has `after`, and if the base was asked `before` and `difference`, with 95% intervals of the
    paired bootstrap. `is_worse`: see `_is_worse`, of the main metric's difference.
    """
    records = scored_records(prepared)
    if not records:
        return None
    notify(f"answering {len(records):,} held-out records of the task after the training")
    result = _answered(prepared, module, records)
    before = read_before(prepared.folder)
    task, seed = prepared.settings.task, prepared.settings.training.seed
    assert task is not None
    known = None if before is None or len(before["answers"]) != len(records) else before["answers"]
    outputs = [one["prediction"] for one in result.answers]
    metrics = _compared(task, records, outputs, known, result, seed=seed)
    main = next(iter(metrics))
    shown = zip(records[:SHOWN], outputs, known or [None] * len(records), strict=False)
    return {
        "name": task.title,
        "metric": main,
        "num_records": len(records),
        "metrics": metrics,
        "is_worse": _is_worse(metrics[main].get("difference")),
        "answers": [
            {"text": record.text, "reference": record.reference, "before": old, "after": new}
            for record, new, old in shown
        ],
    }


def _is_worse(difference: Mapping[str, Any] | None) -> bool:
    """Whether the whole interval is below 0, or the difference itself where the records show no interval.

    Too few records show none, and so do records that all differ alike.
    """
    if difference is None:
        return False
    interval = difference["interval"] or [difference["value"]] * 2
    return bool(interval[1] < 0)


def _answered(prepared: PreparedRun, module: Network, records: Sequence[Record]) -> Result:
    """The answers of a network to records, as the run's solution gives them."""
    start = prepared.start
    generation = {} if start.base is None else start.base.generation
    generation = generation | start.generation(prepared.settings.objective.name)
    settings = solution_settings(prepared, ModelReference(name="the model of the run"))
    assert settings is not None
    was_training = module.training
    lm = LanguageModel(module.eval(), prepared.tokenizer, generation=generation)
    found, _ = Runner(lm=lm, settings=settings, tested=records).run([Variant("", ())])
    module.train(was_training)
    return found


def _compared(
    task: TaskSettings,
    records: Sequence[Record],
    outputs: Answers,
    before: Answers | None,
    result: Result,
    *,
    seed: int,
) -> dict[str, Any]:
    after, number = plain(result.metrics), len(records)
    if before is None:
        return {name: {"after": score} for name, score in after.items()}
    references = references_of(task, records)
    then = plain(with_intervals(weighted(task, references, before), number, seed=seed))
    both = weighted(task, [*references, *references], [*outputs, *before])
    return {
        name: {
            "before": then[name],
            "after": score,
            "difference": compared(both[name], number, seed=seed).to_dict(),
        }
        for name, score in after.items()
    }
