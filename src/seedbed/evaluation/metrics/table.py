"""All metrics of outputs by name: what they compare, how their score is computed, what papers call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from seedbed.evaluation.metrics.answers import weighted_exact_match, weighted_f1
from seedbed.evaluation.metrics.bootstrap import WeightedScore
from seedbed.evaluation.metrics.entities import weighted_entity_f1
from seedbed.evaluation.metrics.labels import weighted_accuracy, weighted_macro_f1
from seedbed.evaluation.metrics.overlap import rouge_signature, weighted_rouge
from seedbed.evaluation.metrics.programs import weighted_pass
from seedbed.evaluation.metrics.translation import translation_signature, weighted_translation
from seedbed.evaluation.metrics.writing import weighted_writing

# What an output and its references are: a text with one or several, a label, the tags of words, a text alone,
# a program with its tests.
Form = Literal["texts", "label", "tags", "text", "code"]


class Metric(NamedTuple):
    """How outputs are scored; all are in 0..1 but `num_words`, and more is better but for `repetition`.

    `signature` gives what papers quote beside the figure, from the largest number of references.
    """

    forms: tuple[Form, ...]
    score: Callable[[Sequence[Any], Sequence[Any]], WeightedScore]
    signature: Callable[[int], str] | None = None


def _accuracy(labels: Sequence[Any], predicted: Sequence[Any]) -> WeightedScore:
    return weighted_accuracy(_lists(labels), _lists(predicted))


def _macro_f1(labels: Sequence[Any], predicted: Sequence[Any]) -> WeightedScore:
    return weighted_macro_f1(_lists(labels), _lists(predicted))


def _lists(labels: Sequence[Any]) -> list[Sequence[str]]:
    """One label of each record as a list, as the tags of its words are."""
    return [[one] if isinstance(one, str) else one for one in labels]


def _writing(name: str, references: Sequence[Any], predictions: Sequence[str]) -> WeightedScore:
    return weighted_writing(name, predictions)


METRICS = {
    **{
        name: Metric(("texts",), partial(weighted_rouge, name), lambda _: rouge_signature())
        for name in ("rouge1", "rouge2", "rougeL")
    },
    **{
        name: Metric(("texts",), partial(weighted_translation, name), partial(translation_signature, name))
        for name in ("bleu", "chrf")
    },
    "exact_match": Metric(("texts",), weighted_exact_match),
    "f1": Metric(("texts",), weighted_f1),
    "accuracy": Metric(("label", "tags"), _accuracy),
    "macro_f1": Metric(("label", "tags"), _macro_f1),
    "entity_f1": Metric(("tags",), weighted_entity_f1),
    "pass_at_1": Metric(("code",), weighted_pass),
    **{
        name: Metric(("text",), partial(_writing, name))
        for name in ("distinct_1", "distinct_2", "repetition", "num_words")
    },
}
