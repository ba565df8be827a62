"""Metrics equal scikit-learn's and seqeval's to every digit, their bootstrap intervals included."""

import random
from itertools import chain

import numpy as np
import pytest
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from seedbed.evaluation.metrics.bootstrap import NUM_RESAMPLES, bootstrapped, resampled
from seedbed.evaluation.metrics.entities import entity_f1, weighted_entity_f1
from seedbed.evaluation.metrics.labels import accuracy, confusion, macro_f1, weighted_macro_f1
from seedbed.text.entities import are_entity_tags, entities

TAGS = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC", "B", "I-a-b"]


def sequences(seed: int, tags: list[str], *, num: int = 40) -> tuple[list[list[str]], list[list[str]]]:
    """Tags of texts of 1 to 12 words, and the same with a third of them changed."""
    source = random.Random(seed)
    true = [[source.choice(tags) for _ in range(source.randint(1, 12))] for _ in range(num)]
    guess = [[tag if source.random() < 0.66 else source.choice(tags) for tag in text] for text in true]
    return true, guess


@pytest.mark.parametrize("seed", range(20))
def test_labels_equal_scikit_learn(seed: int) -> None:
    source = random.Random(seed)
    names = [f"class {n}" for n in range(source.randint(2, 40))]
    labels = source.choices(names, weights=range(len(names)), k=source.randint(2, 400))
    predicted = [label if source.random() < 0.6 else source.choice(names[:-1]) for label in labels]
    assert accuracy(labels, predicted) == accuracy_score(labels, predicted)
    assert macro_f1(labels, predicted) == f1_score(labels, predicted, average="macro", zero_division=0)
    assert confusion(labels, predicted, names) == confusion_matrix(labels, predicted, labels=names).tolist()


@pytest.mark.filterwarnings("ignore")  # seqeval's, about tags without a prefix
@pytest.mark.parametrize("tags", [TAGS, TAGS[:3], TAGS[:9], ["O"], ["O", "I-PER", "I-LOC"]])
def test_entities_equal_seqeval(tags: list[str]) -> None:
    for seed in range(20):
        true, predicted = sequences(seed, tags)
        assert [tuple(entity) for text in true for entity in entities(text)] == [
            entity for text in true for entity in get_entities(text)
        ]
        assert entity_f1(true, predicted) == seqeval_f1(true, predicted, average="micro")


@pytest.mark.filterwarnings("ignore")
def test_bootstrap_intervals_equal_those_of_resampled_records() -> None:
    """Each resample, written out record by record and scored by scikit-learn and seqeval."""
    true, predicted = sequences(1, TAGS[:3], num=30)
    weights = np.concatenate([*resampled(30, seed=7)])
    assert weights.shape == (NUM_RESAMPLES, 30) and (weights.sum(1) == 30).all()
    for score, theirs in (
        (weighted_entity_f1(true, predicted), lambda a, b: seqeval_f1(a, b)),
        (
            weighted_macro_f1(true, predicted),
            lambda a, b: f1_score([*chain(*a)], [*chain(*b)], average="macro"),
        ),
    ):
        scores = []
        for row in weights[:100]:
            chosen = [i for i, times in enumerate(row) for _ in range(int(times))]
            scores.append(theirs([true[i] for i in chosen], [predicted[i] for i in chosen]))
        assert score(weights[:100]).tolist() == scores
        measured = bootstrapped(score, 30, seed=7)
        assert measured.value == theirs(true, predicted)
        assert measured.interval == tuple(np.percentile(score(weights), [2.5, 97.5]))
        assert measured != bootstrapped(score, 30, seed=8)


def test_an_interval_has_the_true_value_in_95_of_100() -> None:
    generator, hits = np.random.default_rng(0), []
    for seed in range(100):
        right = generator.random(100) < 0.7
        low, high = bootstrapped(lambda weights, right=right: weights @ right / 100, 100, seed=seed).interval
        hits.append(low <= 0.7 <= high)
    assert 0.88 < np.mean(hits) < 0.99
    for few in (1, 4, 29):
        assert bootstrapped(lambda weights: weights[:, 0], few).interval is None
    alike = bootstrapped(lambda weights: np.ones(len(weights)), 40)
    assert alike.value == 1.0 and alike.interval is None


def test_many_classes_take_no_table_of_all_of_them() -> None:
    labels = [[f"label {n % 3000}"] for n in range(6000)]
    score = weighted_macro_f1(labels, labels[1:] + labels[:1])
    assert score(np.ones((1, 6000))).tolist() == [0.0]


def test_tags_that_mark_entities_are_known_by_their_names() -> None:
    assert are_entity_tags(["B-PER", "I-PER", "O"]) and are_entity_tags(["O", "S-LOC"])
    assert not are_entity_tags(["NOUN", "VERB", "O"]) and not are_entity_tags(["B-PER", "I-PER"])
    assert not are_entity_tags(["O"])
