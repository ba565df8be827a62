"""The figures of a run at its end: held-out metrics of its best weights, beside trivial answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from seedbed.base.runtime import Runtime
from seedbed.evaluation.metrics.bootstrap import bootstrapped
from seedbed.evaluation.metrics.entities import weighted_entity_f1
from seedbed.evaluation.metrics.labels import confusion, weighted_macro_f1
from seedbed.evaluation.verdict import verdict
from seedbed.models.family import Network
from seedbed.runs.prepare import PreparedRun
from seedbed.text.entities import are_entity_tags
from seedbed.training.evaluation import Evaluation, Validation, evaluate
from seedbed.training.intervals import share_interval
from seedbed.training.metrics import read_metrics
from seedbed.training.resume import Progress

# Tokens of the training examples whose targets are counted: they are read in random order, and with 1,000,000
# the peak memory of a run on 300 MB of text was 150 MiB higher (2026-11-28).
UNIGRAM_TOKENS = 250_000
UNSEEN = 0.1  # added to each count
_SCORES = ("loss", "bits_per_byte", "accuracy")


def run_figures(
    module: Network,
    prepared: PreparedRun,
    validation: Validation,
    progress: Progress,
    *,
    runtime: Runtime,
    task: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate the best weights, which are in the module, on the records that the run was evaluated on.

    Each figure is `{"value", "interval"}`, with the 95% interval. Of labels: `accuracy`, `majority_share`
    (of the most frequent training label), `macro_f1`, `entity_f1` where the tags mark entities, and the
    `confusion` table. Of text: `bits_per_byte`, and the `unigram_loss` of a model that knows the frequencies
    of the training targets alone. `before`: the base before the first step. `task`: what `score_after`
    returned. `worked`: see `verdict`.
    """
    training = prepared.settings.training
    found = evaluate(
        module,
        validation,
        batch_tokens=training.micro_batch_tokens or training.batch_tokens,
        seed=training.seed,
        runtime=replace(runtime, rank=0, world_size=1),
    )
    assert found is not None
    metrics: dict[str, Any] = {"step": progress.step, "best_step": progress.best_step}
    metrics |= {"training_loss": progress.loss} | _scores(found.to_dict())
    lines = read_metrics(prepared.folder.metrics_path)
    first = next((line for line in lines if line["kind"] == "evaluation" and line["step"] == 0), None)
    metrics["before"] = None if first is None else _scores(first)
    metrics["num_records"] = len(found.nats)
    metrics["num_records_held_out"] = len(prepared.held_out.source.order(0))
    metrics["num_targets"] = int(found.num_targets.sum())
    if prepared.config.head.labels and prepared.objective.head_kind is not None:
        metrics |= _of_labels(found, prepared)
    elif first is None:
        metrics["unigram_loss"] = _unigram_loss(prepared, validation)
    if task is not None:
        metrics["task"] = task
    worked, because = verdict(metrics, is_text=found.is_text)
    return metrics | {"worked": worked, "because": because}


def _scores(line: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an evaluation with their intervals; None for those that it lacks."""
    found = {
        name: None
        if line.get(name) is None
        else {"value": line[name], "interval": line.get(f"{name}_interval") and [*line[f"{name}_interval"]]}
        for name in _SCORES
    }
    return {name: score for name, score in found.items() if name != "accuracy" or score is not None}


def _of_labels(found: Evaluation, prepared: PreparedRun) -> dict[str, Any]:
    names, seed = prepared.config.head.labels, prepared.settings.training.seed
    labels, predicted = (
        [[names[number] for number in record.tolist()] for record in records if len(record)]
        for records in (found.labels, found.predicted)
    )
    answers = prepared.shards.train_answers
    assert answers is not None
    majority = int(np.bincount(answers.tokens, minlength=2)[1:].argmax())  # 0: no label
    hits = np.array([(record == majority).sum() for record in found.labels], float)
    share = float(hits.sum() / found.num_targets.sum())
    interval = share_interval(hits, found.num_targets)
    scores: dict[str, Any] = {
        "label_counts": prepared.shards.label_counts(),
        "majority_label": names[majority],
        "majority_share": {"value": share, "interval": [*interval]},
    }
    scored = {"macro_f1": weighted_macro_f1(labels, predicted)}
    if prepared.objective.learns_from == "tags" and are_entity_tags(names):
        scored["entity_f1"] = weighted_entity_f1(labels, predicted)
    for name, score in scored.items():
        scores[name] = bootstrapped(score, len(labels), seed=seed).to_dict()
    flat = [[label for record in records for label in record] for records in (labels, predicted)]
    return scores | {"confusion": {"labels": [*names], "counts": confusion(flat[0], flat[1], names)}}


def _unigram_loss(prepared: PreparedRun, validation: Validation) -> float:
    """The nats per held-out target under the frequencies of the training targets."""
    size, seed = prepared.config.vocab_size, prepared.settings.training.seed
    counts, loader, num_tokens = np.full(size, UNSEEN), prepared.loader(), 0
    while num_tokens < UNIGRAM_TOKENS and not any(position.pass_index for position in loader.positions):
        for example in loader.next_step():
            num_tokens += example.num_tokens
            counts += np.bincount(example.targets, minlength=size)
    records = validation.source.records(0, 0)
    held = sum(
        np.bincount(validation.objective.example(record, seed).targets, minlength=size) for record in records
    )
    return float(-(held * np.log(counts / counts.sum())).sum() / np.sum(held))
