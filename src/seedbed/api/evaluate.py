"""Score the outputs of any system as papers do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seedbed.base.errors import DataError, UsageError
from seedbed.evaluation.metrics.bootstrap import bootstrapped
from seedbed.evaluation.metrics.paired import compared
from seedbed.evaluation.metrics.table import METRICS
from seedbed.evaluation.outputs import read_outputs
from seedbed.evaluation.task import TASKS


def evaluate_outputs(
    task: str,
    predictions: Path | str,
    *,
    references: Path | str | None = None,
    against: Path | str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The scores of a file of outputs by a task's metrics, each with its 95% interval.

    `against` are another system's outputs for the same records: `difference` has ours minus theirs, with its
    interval and p-value. Errors: UsageError for references that are missing or have no use; DataError for a
    file that does not match.
    """
    chosen = TASKS.get(task)
    needs = chosen.form != "text"
    if needs and references is None:
        raise UsageError(f"the task {task} needs references: give --references FILE")
    if not needs and references is not None:
        raise UsageError(f"the task {task} has no references; leave out --references")
    outputs = read_outputs(predictions, chosen.form)
    true = outputs if references is None else read_outputs(references, chosen.form, are_references=True)
    others = None if against is None else read_outputs(against, chosen.form)
    for name, found in ((str(references), true), (str(against), others)):
        if found is not None:
            _require_equal(outputs, found, str(predictions), name, are_tags=chosen.form == "tags")
    result: dict[str, Any] = {"task": task, "num_records": len(outputs), "metrics": {}, "signatures": {}}
    most = max(len(one) for one in true) if chosen.form == "texts" else 1
    for name in chosen.metrics:
        metric = METRICS[name]
        score = bootstrapped(metric.score(true, outputs), len(outputs), seed=seed)
        result["metrics"][name] = score.to_dict()
        if metric.signature is not None:
            result["signatures"][name] = metric.signature(most)
        if others is not None:
            both = metric.score([*true, *true], [*outputs, *others])
            difference = compared(both, len(outputs), seed=seed)
            result.setdefault("difference", {})[name] = difference.to_dict()
    return result


def _require_equal(
    one: Sequence[Any], other: Sequence[Any], name: str, other_name: str, *, are_tags: bool
) -> None:
    """Refuse files of different numbers of records, or of words."""
    if len(one) != len(other):
        raise DataError(
            f"{name} has {len(one)} outputs and {other_name} {len(other)}; give one for each record, in the "
            "same order"
        )
    pairs = enumerate(zip(one, other, strict=True), 1)
    if are_tags and (wrong := next(((i, a, b) for i, (a, b) in pairs if len(a) != len(b)), None)):
        number, ours, theirs = wrong
        raise DataError(
            f"text {number} has {len(ours)} tags in {name} and {len(theirs)} in {other_name}; give one for "
            "each word"
        )
