"""BLEU and chrF of a corpus, from sacrebleu (Post 2018), in 0..1, and the signature that papers quote."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from seedbed.evaluation.metrics.bootstrap import Numbers, WeightedScore


def weighted_translation(
    name: str, references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> WeightedScore:
    """The `bleu` or `chrf` of a corpus whose sentences have weights."""
    metric = _metric(name)
    # A line of references per place; a sentence with fewer has None there.
    lines = [list(line) for line in zip_longest(*references)]
    statistics = np.array(metric._extract_corpus_statistics([*predictions], lines), float)

    def score(weights: Numbers) -> Numbers:
        totals = np.rint(weights @ statistics).astype(int).tolist()
        scores = [metric._compute_score_from_stats(total).score / 100 for total in totals]
        return np.minimum(1.0, scores)  # 1 + 4e-16 for equal texts

    return score


def translation_signature(name: str, num_references: int) -> str:
    """The signature of sacrebleu, such as `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0`."""
    metric = _metric(name)
    metric.num_refs = num_references
    return str(metric.get_signature())


def _metric(name: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU() if name == "bleu" else CHRF()
