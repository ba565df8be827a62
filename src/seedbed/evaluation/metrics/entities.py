"""The F1 of entities in tags of words, equal to seqeval's in its default mode."""

from __future__ import annotations

import numpy as np

from seedbed.evaluation.metrics.bootstrap import Numbers, WeightedScore
from seedbed.evaluation.metrics.labels import Records
from seedbed.text.entities import entities


def entity_f1(tags: Records, predicted: Records) -> float:
    """The micro-averaged F1 of the entities of all texts: type, first and last word must be right."""
    return float(weighted_entity_f1(tags, predicted)(np.ones((1, len(tags))))[0])


def weighted_entity_f1(tags: Records, predicted: Records) -> WeightedScore:
    """The F1 of the entities of texts with weights; 0 where none is found."""
    pairs = [({*entities(ours)}, {*entities(theirs)}) for ours, theirs in zip(tags, predicted, strict=True)]
    counts = np.array([(len(ours & theirs), len(ours), len(theirs)) for ours, theirs in pairs], float)

    def score(weights: Numbers) -> Numbers:
        found, true, guessed = (weights @ counts).T
        precision, recall = (found / np.maximum(total, 1) for total in (guessed, true))
        total = precision + recall
        f1: Numbers = 2 * precision * recall / np.where(total > 0, total, 1)
        return f1

    return score
