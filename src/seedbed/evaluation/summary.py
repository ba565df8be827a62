"""The held-out figures of a run in words, for a terminal and for a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seedbed.evaluation.metrics.bootstrap import ENOUGH_RECORDS

MOST_LABELS, MOST_UNMEASURED = 8, 20


def summary_rows(metrics: Mapping[str, Any]) -> dict[str, str]:
    """A line for each figure that `metrics.json` has, beside its trivial answer and the base before it."""
    labelled, rows = metrics.get("majority_share") is not None, {}
    unit = "label" if labelled else "token"
    if labelled:
        share = metrics["majority_share"]["value"]
        rows["accuracy"] = f"{_text(metrics['accuracy'], '.1%')}; most frequent label {share:.1%}"
    for key, name in (("macro_f1", "macro-F1"), ("entity_f1", "entity F1")):
        if metrics.get(key) is not None:
            rows[name] = _text(metrics[key], ".3f")
            if metrics[key]["interval"] is None:
                few = metrics["num_records"] < ENOUGH_RECORDS
                why = f"with {metrics['num_records']:,} records" if few else "where all records are alike"
                rows[name] += f"; its interval is not measurable {why}"
    if counts := metrics.get("label_counts"):
        one_each = metrics["num_targets"] == metrics["num_records"]
        rows["labels"] = label_counts_text(counts, "record" if one_each else "word")
    rows |= task_rows(metrics.get("task"))
    rows["held-out loss"] = f"{_text(metrics['loss'], '.4f')} nats per {unit}"
    if metrics["bits_per_byte"] is not None:
        rows["bits per byte"] = _text(metrics["bits_per_byte"], ".4f")
    if metrics.get("unigram_loss") is not None:
        rows["token frequencies"] = f"{metrics['unigram_loss']:.4f} nats per token"
    if (before := metrics["before"]) is not None:
        loss = f"{before['loss']['value']:.4f} nats per {unit}"
        right = f"accuracy {before['accuracy']['value']:.1%}, " if labelled else ""
        rows["before training"] = f"{right}{loss}"
    read, known = metrics["num_records"], metrics.get("num_records_held_out", metrics["num_records"])
    part = f"a sample of {read:,} of {known:,}" if read < known else f"{read:,}"
    size = f"{part} held-out records, {metrics['num_targets']:,} {unit}s"
    rows["measured on"] = f"{size}; in brackets: 95% intervals"
    return rows


def task_rows(task: Mapping[str, Any] | None) -> dict[str, str]:
    """A line for each metric of a run's task, after and before the training."""
    rows = {}
    for name, found in (task or {"metrics": {}})["metrics"].items():
        then = f"; before training {_text(found['before'], '.3f')}" if "before" in found else ""
        rows[name] = f"{_text(found['after'], '.3f')}{then}"
    if task is not None and rows:
        rows["answers"] = f"{task['num_records']:,} held-out records of the task {task['name']}"
    return rows


def label_counts_text(counts: Mapping[str, Sequence[int]], unit: str) -> str:
    """The most frequent labels with their training and held-out counts, and those that none measures."""
    order = sorted(counts, key=lambda label: -sum(counts[label]))
    held = [
        f"{label} {counts[label][0]:,} (held out: {counts[label][1]:,})"
        for label in order
        if counts[label][1]
    ]
    rest = len(held[MOST_LABELS:])
    parts = [", ".join(held[:MOST_LABELS]) + (f", and {rest:,} more" if rest else "")] if held else []
    lost = [label for label in order if not counts[label][1]]
    for label in lost[:MOST_UNMEASURED]:
        number = counts[label][0]
        parts.append(f"{label}: {number:,} {unit}{'s' * (number != 1)}, not measured")
    if more := len(lost[MOST_UNMEASURED:]):
        parts.append(f"{more:,} more labels are not measured")
    return "; ".join(parts)


def best_step_text(metrics: Mapping[str, Any]) -> str:
    """The step of the best weights; 0 is the base itself."""
    if metrics["best_step"] == 0 and metrics["before"] is not None:
        return "0: the base's own weights, which no step made better"
    return f"{metrics['best_step']:,} of {metrics['step']:,}"


def _text(score: Mapping[str, Any], form: str) -> str:
    """A value with its 95% interval."""
    value = f"{score['value']:{form}}"
    if score["interval"] is None:
        return value
    low, high = score["interval"]
    return f"{value} ({low:{form}} to {high:{form}})"
