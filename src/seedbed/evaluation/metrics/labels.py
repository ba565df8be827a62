"""Metrics of labels, equal to scikit-learn's: accuracy, macro-F1, the confusion table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from seedbed.evaluation.metrics.bootstrap import Numbers, WeightedScore, ratio_score

_AT_ONCE = 2**20  # numbers of a table of classes by records
Classes = NDArray[np.int64]
Records = Sequence[Sequence[str]]  # the labels of each record: one for a text, one for each word of it


def accuracy(labels: Sequence[str], predicted: Sequence[str]) -> float:
    """The share of labels that are predicted right."""
    return sum(map(str.__eq__, labels, predicted)) / len(labels)


def macro_f1(labels: Sequence[str], predicted: Sequence[str]) -> float:
    """The mean F1 of the classes that are labels or predicted, each alike (`average="macro"`)."""
    return float(weighted_macro_f1([labels], [predicted])(np.ones((1, 1)))[0])


def confusion(labels: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """How often each label (row) was predicted as each (column), both in the order of `names`."""
    number, size = {name: i for i, name in enumerate(names)}, len(names)
    cells = [number[label] * size + number[guess] for label, guess in zip(labels, predicted, strict=True)]
    table: list[list[int]] = np.bincount(cells, minlength=size * size).reshape(size, size).tolist()
    return table


def weighted_accuracy(labels: Records, predicted: Records) -> WeightedScore:
    """The share of the labels of all records that are predicted right."""
    pairs = zip(labels, predicted, strict=True)
    return ratio_score([(sum(map(str.__eq__, ours, theirs)), len(ours)) for ours, theirs in pairs])


def weighted_macro_f1(labels: Records, predicted: Records) -> WeightedScore:
    """The macro-F1 of records with weights."""
    number = {name: i for i, name in enumerate(sorted({*chain(*labels), *chain(*predicted)}))}
    record = np.repeat(np.arange(len(labels)), [len(one) for one in labels])
    true = np.array([number[label] for label in chain(*labels)])
    guess = np.array([number[label] for label in chain(*predicted)])
    is_right, is_all = true == guess, np.ones(len(true), bool)

    def totals(weights: Numbers, classes: range, number_of: Classes, among: NDArray[np.bool_]) -> Numbers:
        """The weighted number of words of each class, (num_resamples, num_classes)."""
        inside = (number_of >= classes.start) & (number_of < classes.stop) & among
        cells = record[inside] * len(classes) + number_of[inside] - classes.start
        counts = np.bincount(cells, minlength=len(labels) * len(classes))
        found: Numbers = weights @ counts.reshape(len(labels), -1).astype(float)
        return found

    def score(weights: Numbers) -> Numbers:
        at_once, parts = max(1, _AT_ONCE // len(labels)), []
        for first in range(0, len(number), at_once):
            classes = range(first, min(first + at_once, len(number)))
            right = totals(weights, classes, true, is_right)
            total = totals(weights, classes, true, is_all) + totals(weights, classes, guess, is_all)
            parts.append(np.where(total > 0, 2 * right / np.maximum(total, 1), np.nan))
        f1 = np.concatenate(parts, 1)
        return np.array([row[~np.isnan(row)].mean() for row in f1])

    return score
