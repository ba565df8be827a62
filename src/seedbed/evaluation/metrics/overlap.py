"""ROUGE, from rouge-score, as papers quote it: F1 with Porter's stemmer (Lin 2004)."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.evaluation.metrics.bootstrap import WeightedScore, mean_score

SIGNATURE = "rouge-score {version}, F1, use_stemmer=True"


def weighted_rouge(
    name: str, references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> WeightedScore:
    """The mean F1 of `rouge1`, `rouge2` or `rougeL`, each with the best of its references."""
    from rouge_score.rouge_scorer import RougeScorer  # its stemmer takes 2 s to import

    scorer = RougeScorer([name], use_stemmer=True)
    pairs = zip(references, predictions, strict=True)
    return mean_score([scorer.score_multi([*several], text)[name].fmeasure for several, text in pairs])


def rouge_signature() -> str:
    """The library's version and how it is called."""
    from importlib.metadata import version

    return SIGNATURE.format(version=version("rouge-score"))
