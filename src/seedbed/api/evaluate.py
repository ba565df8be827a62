"""Score a model by its prompts, or the outputs of any system, as papers do."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seedbed.base.errors import DataError, UsageError
from seedbed.data.corpora import read_documents
from seedbed.evaluation.in_context import (
    DEFAULT_PROMPT,
    Choice,
    Example,
    Prompt,
    calibrated,
    choose_shots,
    label_scores,
)
from seedbed.evaluation.metrics.bootstrap import bootstrapped
from seedbed.evaluation.metrics.labels import confusion
from seedbed.evaluation.metrics.paired import compared
from seedbed.evaluation.metrics.table import METRICS
from seedbed.evaluation.outputs import read_outputs
from seedbed.evaluation.task import TASKS
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load


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


def evaluate_labels(
    model: str | LanguageModel,
    data: str,
    *,
    examples: str | None = None,
    num_shots: int = 0,
    choice: Choice = "balanced",
    prompt: str = DEFAULT_PROMPT,
    names: Mapping[str, str] | None = None,
    num_records: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The scores of a model that labels the texts of `data` by prompt, without training.

    Each text gets the label that is the most likely per token behind `num_shots` examples of the source
    `examples`; `calibrated` has the same after each label's mean over all texts is taken away. `names` are
    the words of labels in the prompt; `num_records` tests a sample. Errors: UsageError, DataError.
    """
    started = time.perf_counter()
    asked = Prompt(prompt)
    if num_shots and examples is None:
        raise UsageError(
            "shots need examples that are not tested: give --examples FILE, such as training data"
        )
    tested = _examples(data, names or {})
    if num_records is not None and num_records < len(tested):
        tested = random.Random(seed).sample(tested, num_records)
    pool = [] if examples is None else _examples(examples, names or {})
    labels = sorted({example.label for example in (*tested, *pool)})
    if len(labels) < 2:
        raise DataError(f"{data} has one label, {labels[0]!r}; give records of at least two")
    texts, true = [example.text for example in tested], [example.label for example in tested]
    shots = choose_shots(pool, num_shots, choice=choice, seed=seed, apart_from=texts)
    lm = model if isinstance(model, LanguageModel) else load(model)
    scores, num_used = label_scores(lm, texts, labels, prompt=asked, shots=shots)
    result: dict[str, Any] = {"task": "classify", "num_records": len(tested), "num_shots": num_used}
    for name, found in (("metrics", scores), ("calibrated", calibrated(scores))):
        guessed = [labels[i] for i in found.argmax(1)]
        result[name] = {
            metric: bootstrapped(METRICS[metric].score(true, guessed), len(true), seed=seed).to_dict()
            for metric in TASKS.get("classify").metrics
        }
        result[name]["confusion"] = confusion(true, guessed, labels)
    return result | {"labels": labels, "seconds": time.perf_counter() - started}


def _examples(source: str, names: Mapping[str, str]) -> list[Example]:
    """The labelled records of a source, their labels by their names."""
    found = [
        (document.text, document.answer or "") for document in read_documents(source, learns_from="labels")
    ]
    return [Example(text, names.get(label, label)) for text, label in found]


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
