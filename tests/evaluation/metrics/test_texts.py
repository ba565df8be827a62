"""Metrics of texts equal those of their libraries, and the paired comparison those of rewritten records."""

import random
from typing import Any

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf
from torchmetrics.functional.text import squad

from seedbed.evaluation.metrics.answers import exact_match, f1
from seedbed.evaluation.metrics.bootstrap import NUM_RESAMPLES, bootstrapped, mean_score, resampled
from seedbed.evaluation.metrics.paired import compared
from seedbed.evaluation.metrics.table import METRICS
from seedbed.evaluation.metrics.writing import distinct, repetition

WORDS = (
    *(
        "The",
        "a",
        "an",
        "seeds",
        "seed's,",
        "garden",
        "grow",
        "growing",
        "grew",
        "GROWS",
        "in.",
        "of",
        "über",
    ),
    *("naïve", "漢字", "3.5", "don't", "(the)", "tree-house", "!"),
)
HAND_MADE = [
    ("the Cat's hat", ["cats hat", "a hat"]),
    ("", ["the"]),
    ("", [""]),
    ("a", [""]),
    ("the the", ["the"]),
    ("St. Paul, Minn.", ["st paul minn"]),
    ("1,000", ["1000", "a thousand"]),
    ("Zürich.", ["zürich", "Zurich"]),
    ("  two   words ", ["two words"]),
]


def texts(seed: int, num: int) -> tuple[list[list[str]], list[str]]:
    """References of 1 to 3 texts each, and outputs that share words with them."""
    source = random.Random(seed)

    def text() -> str:
        return " ".join(source.choices(WORDS, k=source.randint(0, 12)))

    references = [[text() for _ in range(source.randint(1, 3))] for _ in range(num)]
    outputs = [source.choice(several) if source.random() < 0.2 else text() for several in references]
    return references, outputs


def score(name: str, references: list[list[str]], outputs: list[str]) -> float:
    return float(METRICS[name].score(references, outputs)(np.ones((1, len(outputs))))[0])


def test_answers_equal_the_squad_script() -> None:
    references, outputs = texts(1, 1000)
    cases = [*zip(outputs, references, strict=True), *HAND_MADE]
    for output, several in cases:
        theirs = squad(
            [{"prediction_text": output, "id": "1"}],
            [{"answers": {"answer_start": [0] * len(several), "text": several}, "id": "1"}],
        )
        assert max(exact_match(one, output) for one in several) == theirs["exact_match"] / 100
        assert max(f1(one, output) for one in several) == pytest.approx(float(theirs["f1"]) / 100, abs=1e-6)
    assert f1("the red house", "a red car") == 0.5


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_called_as_papers_do(name: str) -> None:
    references, outputs = texts(2, 200)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    theirs = [
        max(scorer.score(one, output)[name].fmeasure for one in several)
        for several, output in zip(references, outputs, strict=True)
    ]
    assert score(name, references, outputs) == pytest.approx(np.mean(theirs), abs=1e-12)
    assert "use_stemmer=True" in METRICS[name].signature(3)  # type: ignore[misc]


@pytest.mark.parametrize(("name", "corpus"), [("bleu", corpus_bleu), ("chrf", corpus_chrf)])
def test_translation_equals_sacrebleu(name: str, corpus: object) -> None:
    for seed, num_references in ((3, 1), (4, 2)):
        source, outputs = texts(seed, 150)
        references = [(several * 2)[:num_references] for several in source]
        lines = [list(line) for line in zip(*references, strict=True)]
        theirs = corpus(outputs, lines).score / 100  # type: ignore[operator]
        assert score(name, references, outputs) == pytest.approx(theirs, abs=1e-9)
        signature = METRICS[name].signature(num_references)  # type: ignore[misc]
        assert signature.startswith(f"nrefs:{num_references}|case:mixed") and "version:" in signature


def test_a_bootstrap_of_bleu_is_that_of_rewritten_corpora() -> None:
    references, outputs = texts(5, 40)
    references = [several[:1] for several in references]
    weights = np.concatenate([*resampled(40, seed=7)])
    found = METRICS["bleu"].score(references, outputs)(weights)
    for row, value in zip(weights[:20].astype(int), found, strict=False):
        chosen = np.repeat(np.arange(40), row)
        theirs = corpus_bleu([outputs[i] for i in chosen], [[references[i][0] for i in chosen]])
        assert value == pytest.approx(theirs.score / 100, abs=1e-9)


def test_figures_of_a_text_alone() -> None:
    assert distinct("a b a b", 1) == 0.5 and distinct("a b a b", 2) == 2 / 3 and distinct("a", 2) == 0
    assert repetition("a b c d a b c d") == 1 - 4 / 5 and repetition("a b c") == 0


def test_two_systems_are_compared_on_the_same_records() -> None:
    random_ = np.random.default_rng(0)
    truth = random_.random(200)
    worse = truth - 0.02 + 0.05 * random_.standard_normal(200)
    found = compared(mean_score([*truth, *worse]), 200, seed=1)
    assert found.score.value == pytest.approx(truth.mean() - worse.mean())
    assert found.score.interval is not None and found.p_value is not None
    low, high = found.score.interval
    plain = bootstrapped(mean_score(truth - worse), 200, seed=1)
    assert plain.interval is not None
    assert (low, high) == pytest.approx(plain.interval)  # the mean of differences
    assert low > 0 and found.p_value < 0.01
    # Against itself shuffled there is no difference: the p-value is far from 0 in most of 50 pairs.
    values = [
        compared(mean_score([*a, *b]), 60, seed=seed).p_value
        for seed in range(50)
        for a, b in [np.random.default_rng(seed).random((2, 60))]
    ]
    assert all(value is not None for value in values)
    assert 15 <= sum(value > 0.5 for value in values if value is not None) <= 35
    assert compared(mean_score([1.0] * 40), 20).p_value is None
    assert compared(mean_score([0.5] * 80), 40).p_value == 1.0


def test_the_p_value_is_the_share_of_swaps_that_differ_as_much() -> None:
    one, other = np.random.default_rng(3).random((2, 40))
    found = compared(mean_score([*one, *other]), 40, seed=5)
    swaps = np.random.default_rng([5, 1]).integers(0, 2, (NUM_RESAMPLES, 40))
    theirs = [
        abs(np.where(row, one, other).mean() - np.where(row, other, one).mean())
        >= abs(one.mean() - other.mean()) - 1e-12
        for row in swaps
    ]
    assert found.p_value == (1 + sum(theirs)) / (1 + NUM_RESAMPLES)


def test_every_metric_is_in_range_and_its_own_reference_is_best() -> None:
    labels = ["good", "bad"] * 20
    tags = [["O", "B-PER", "I-PER"]] * 40
    references, _ = texts(6, 40)
    references = [[f"{several[0]} the seed grows well"] for several in references]
    right: dict[str, tuple[Any, Any]] = {
        "texts": (references, [several[0] for several in references]),
        "label": (labels, labels),
        "tags": (tags, tags),
        "text": ([], ["a b c d"] * 40),
        "code": (["assert x"] * 40, ["x = 1"] * 40),
    }
    for name, metric in METRICS.items():
        for form in metric.forms:
            value = score(name, *right[form])
            assert value == 4 if name == "num_words" else 0 <= value <= 1
            if form != "text":
                assert value == pytest.approx(1)
