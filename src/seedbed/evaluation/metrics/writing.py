"""Figures of a text alone: how many words it has, how many are different, and what it repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from seedbed.evaluation.metrics.bootstrap import WeightedScore, mean_score

REPEATED = 4  # words of a sequence that came before in its text


def distinct(text: str, size: int) -> float:
    """The share of a text's sequences of `size` words that are different (Li et al. 2016); 0 without one."""
    found = _sequences(text, size)
    return len({*found}) / len(found) if found else 0.0


def repetition(text: str) -> float:
    """The share of a text's sequences of REPEATED words that came before in it; 0 without one."""
    found = _sequences(text, REPEATED)
    return 1 - len({*found}) / len(found) if found else 0.0


def weighted_writing(name: str, predictions: Sequence[str]) -> WeightedScore:
    """The mean of `distinct_1`, `distinct_2`, `repetition` or `num_words` over the texts."""
    of_text: dict[str, Callable[[str], float]] = {
        "distinct_1": partial(distinct, size=1),
        "distinct_2": partial(distinct, size=2),
        "repetition": repetition,
        "num_words": lambda text: float(len(text.split())),
    }
    return mean_score([of_text[name](text) for text in predictions])


def _sequences(text: str, size: int) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
