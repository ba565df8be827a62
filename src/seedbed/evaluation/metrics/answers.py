"""Exact match and F1 of answers to questions, equal to the SQuAD 2.0 script's (Rajpurkar et al. 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from seedbed.evaluation.metrics.bootstrap import WeightedScore, mean_score

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(reference: str, prediction: str) -> float:
    """1 if both are the same without case, punctuation, articles and white space, else 0."""
    return float(_words(reference) == _words(prediction))


def f1(reference: str, prediction: str) -> float:
    """The F1 of the words of an answer; two that have no word are equal."""
    true, guess = _words(reference), _words(prediction)
    if not true or not guess:
        return float(true == guess)
    common = (Counter(true) & Counter(guess)).total()
    if not common:
        return 0.0
    precision, recall = common / len(guess), common / len(true)
    return 2 * precision * recall / (precision + recall)


def weighted_exact_match(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> WeightedScore:
    """The mean exact match, each with the best of its references."""
    return _best(exact_match, references, predictions)


def weighted_f1(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> WeightedScore:
    """The mean F1, each with the best of its references."""
    return _best(f1, references, predictions)


def _best(
    score: Callable[[str, str], float], references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> WeightedScore:
    pairs = zip(references, predictions, strict=True)
    return mean_score([max(score(one, prediction) for one in several) for several, prediction in pairs])


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()
