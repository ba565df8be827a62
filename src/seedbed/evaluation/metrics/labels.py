"""Metrics of labels, equal to scikit-learn's: accuracy, macro-F1, the confusion table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seedbed.evaluation.metrics.bootstrap import Counts, Scores

Records = Sequence[Sequence[str]]  # the labels of each record: one for a text, one for each word of it


def accuracy(labels: Sequence[str], predicted: Sequence[str]) -> float:
    """The share of labels that are predicted right."""
    return sum(map(str.__eq__, labels, predicted)) / len(labels)


def macro_f1(labels: Sequence[str], predicted: Sequence[str]) -> float:
    """The mean F1 of the classes that are labels or predicted, each alike (`average="macro"`)."""
    counts = class_counts([labels], [predicted], sorted({*labels, *predicted}))
    return float(macro_f1_of(counts)[0])


def confusion(labels: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """How often each label (row) was predicted as each (column), both in the order of `names`."""
    number, size = {name: i for i, name in enumerate(names)}, len(names)
    cells = [number[label] * size + number[guess] for label, guess in zip(labels, predicted, strict=True)]
    table: list[list[int]] = np.bincount(cells, minlength=size * size).reshape(size, size).tolist()
    return table


def class_counts(labels: Records, predicted: Records, names: Sequence[str]) -> Counts:
    """For each record how often each class is right, is a label, is predicted: (num_records, 3 classes)."""
    number = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(labels), 3, len(names)), np.int64)
    for row, ours, theirs in zip(counts, labels, predicted, strict=True):
        for label, guess in zip(ours, theirs, strict=True):
            row[0, number[label]] += label == guess
            row[1, number[label]] += 1
            row[2, number[guess]] += 1
    return counts.reshape(len(labels), -1)


def macro_f1_of(counts: Counts) -> Scores:
    """The macro-F1 (n,) of summed `class_counts` (n, 3 classes)."""
    right, labelled, predicted = np.moveaxis(counts.reshape(len(counts), 3, -1), 1, 0)
    total = labelled + predicted
    f1 = np.divide(2.0 * right, total, out=np.zeros(total.shape), where=total > 0)
    return np.array([row[known].mean() for row, known in zip(f1, total > 0, strict=True)])
