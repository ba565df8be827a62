"""Scores of metrics in words: their names as papers write them, and their units."""

from __future__ import annotations

from seedbed.report.units import PERCENT, Unit

_UNITS = {
    "perplexity": Unit("", decimals=2),
    "bits_per_byte": Unit("", decimals=3),
    "num_words": Unit("words", decimals=1),
}
# Metrics whose names papers write in another way.
_NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "f1": "F1",
    "macro_f1": "macro-F1",
    "entity_f1": "entity F1",
    "pass_at_1": "pass@1",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "num_words": "length",
}


def metric_title(metric: str) -> str:
    """The name of a metric as papers write it."""
    return _NAMES.get(metric, metric.replace("_", " "))


def sentence(text: str) -> str:
    """A text with a capital first letter."""
    return text[:1].upper() + text[1:]


def metric_unit(metric: str) -> Unit:
    """The unit of a metric; a share is a percentage."""
    return _UNITS.get(metric, PERCENT)


def value_text(metric: str, value: float) -> str:
    """A value of a metric with its unit."""
    unit = metric_unit(metric)
    return f"{unit.text(value)}{'' if unit.name in ('', '%') else ' '}{unit.name}"
