"""Whether a training worked: whether its held-out figures are certainly better than a trivial answer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from seedbed.evaluation.metrics.bootstrap import ENOUGH_RECORDS

Word = Literal["yes", "no", "not shown", "too few to say"]


class Verdict(NamedTuple):
    """A word, and the sentence that gives the reason."""

    worked: Word
    because: str


def verdict(metrics: Mapping[str, Any], *, is_text: bool = False) -> Verdict:
    """Judge the figures of a run, as `metrics.json` has them, by the ends of their intervals.

    The trivial answer to labels is the most frequent label of the training records; a base is compared with
    itself before the first step, other losses with the frequencies of the training targets. Nothing is said
    of fewer than ENOUGH_RECORDS records. Spans of text (`is_text`) are means of many tokens, whose spread few
    of them show: Student's t covers that.
    """
    read, known = metrics["num_records"], metrics.get("num_records_held_out", 0)
    if read < ENOUGH_RECORDS and not is_text:
        more = "add data, raise data.validation_fraction, or give data.validation=FILE"
        more = f"set training.evaluate_tokens=0 to measure all {known:,}" if known >= ENOUGH_RECORDS else more
        return Verdict("too few to say", f"{read} held-out records, {ENOUGH_RECORDS} are needed: {more}.")
    if metrics.get("majority_share") is not None:
        return _labels(metrics)
    if (task := metrics.get("task")) and "before" in task["metrics"][task["metric"]]:
        return _task(task, is_base=metrics["best_step"] == 0)
    before, name = metrics.get("before"), "loss" if metrics["bits_per_byte"] is None else "bits_per_byte"
    unit = "nats per token" if name == "loss" else "bits per byte"
    found = metrics[name]
    if before is not None:
        what, limit, source = "before training", before[name]["value"], "The base's own weights"
        if metrics["best_step"] == 0:
            return Verdict("no", f"No step made the base better: before training {limit:.4f} {unit}.")
    else:
        # The same text: one factor converts nats to bits.
        limit = metrics["unigram_loss"] * found["value"] / metrics["loss"]["value"]
        what, source = "with the frequencies of tokens alone", "The frequencies"
    said = f"{found['value']:.4f} {unit} on held-out data, {what} {limit:.4f}"
    if found["value"] >= limit:
        how = "better" if found["value"] > limit else "as good"
        return Verdict("no", f"{said}. {source} are {how}.")
    if found["interval"] is None:
        return Verdict("not shown", f"{said}, but there is only one held-out record.")
    if found["interval"][1] >= limit:
        return Verdict("not shown", f"{said}, inside the 95% interval up to {found['interval'][1]:.4f}.")
    return Verdict("yes", f"{said}.")


def _task(task: Mapping[str, Any], *, is_base: bool) -> Verdict:
    found = task["metrics"][task["metric"]]
    after, before, interval = (
        found["after"]["value"],
        found["before"]["value"],
        found["difference"]["interval"],
    )
    said = f"{task['metric']} {after:.3f} of {task['num_records']} answers, before training {before:.3f}"
    if task["is_worse"]:
        return Verdict("no", f"{said}: worse. The base's own weights are kept.")
    if is_base:
        return Verdict("no", f"{said}. No step made the base better on held-out data.")
    if found["difference"]["p_value"] is None:
        return Verdict("too few to say", f"{said}; {ENOUGH_RECORDS} are needed for an interval.")
    if interval is None:  # in every sample of the records the difference is the same
        return Verdict("yes" if after > before else "not shown", f"{said}; all records differ alike.")
    low, high = interval
    said += f"; the difference is {low:+.3f} to {high:+.3f}"
    return Verdict("yes" if low > 0 else "not shown", f"{said} (95% interval).")


def _labels(metrics: Mapping[str, Any]) -> Verdict:
    share, found = metrics["accuracy"], metrics.get("entity_f1")
    trivial = metrics["majority_share"]["value"]
    said = f"{share['value']:.1%} right; the most frequent label alone: {trivial:.1%}"
    if share["value"] <= trivial:
        return Verdict("no", f"{said}.")
    if share["interval"][0] <= trivial:
        return Verdict("not shown", f"{said}, inside the 95% interval from {share['interval'][0]:.1%}.")
    if found is not None and found["value"] == 0:
        return Verdict("no", f"{said}, but no entity is found.")
    if found is not None and found["interval"] is not None and found["interval"][0] == 0:
        return Verdict("not shown", f"{said}, but hardly an entity is found (F1 {found['value']:.3f}).")
    return Verdict("yes", f"{said}.")
