"""'Yes' is said where the interval is better than a trivial answer, and nowhere else."""

from typing import Any

import pytest

from seedbed.evaluation.summary import best_step_text, label_counts_text, summary_rows
from seedbed.evaluation.verdict import verdict


def score(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "interval": [low, high]}


def figures(loss: dict[str, Any], **more: Any) -> dict[str, Any]:
    known = {"step": 50, "best_step": 40, "num_records": 120, "num_targets": 6766}
    return known | {"loss": loss, "bits_per_byte": None, "before": None} | more


LOSS = score(0.3, 0.2, 0.4)
MAJORITY = score(0.9205, 0.91, 0.93)


@pytest.mark.parametrize(
    ("accuracy", "entities", "worked", "reason"),
    [
        # O to all of 6,766 tokens, of which 92.05% are O.
        (score(0.9205, 0.914, 0.927), score(0.0, 0.0, 0.0), "no", "most frequent label alone: 92.0%"),
        (score(0.92, 0.914, 0.927), None, "no", "most frequent label"),
        (score(0.925, 0.918, 0.932), score(0.2, 0.1, 0.3), "not shown", "95% interval from 91.8%"),
        (score(0.94, 0.93, 0.95), score(0.0, 0.0, 0.0), "no", "no entity is found"),
        (score(0.94, 0.93, 0.95), score(0.01, 0.0, 0.04), "not shown", "hardly an entity"),
        (score(0.94, 0.93, 0.95), score(0.3, 0.2, 0.4), "yes", "94.0% right"),
        (score(0.94, 0.93, 0.95), None, "yes", "94.0% right"),
    ],
)
def test_labels_are_judged_by_the_most_frequent_one(
    accuracy: Any, entities: Any, worked: str, reason: str
) -> None:
    found = verdict(figures(LOSS, accuracy=accuracy, majority_share=MAJORITY, entity_f1=entities))
    assert found.worked == worked and reason in found.because and "token" not in found.because


@pytest.mark.parametrize(
    ("loss", "more", "worked", "reason"),
    [
        (score(5.0, 4.8, 5.2), {"unigram_loss": 7.0}, "yes", "frequencies of tokens alone 7.0"),
        (score(6.9, 6.7, 7.1), {"unigram_loss": 7.0}, "not shown", "95% interval up to 7.1"),
        (score(7.0, 6.9, 7.1), {"unigram_loss": 7.0}, "no", "are as good"),
        (score(7.1, 7.0, 7.2), {"unigram_loss": 7.0}, "no", "are better"),
        ({"value": 5.0, "interval": None}, {"unigram_loss": 7.0}, "not shown", "only one held-out record"),
        (score(2.0, 1.9, 2.1), {"before": {"loss": score(2.5, 2.4, 2.6)}}, "yes", "before training 2.5"),
        (score(2.0, 1.9, 2.1), {"before": {"loss": score(2.05, 2.0, 2.1)}}, "not shown", "up to 2.1"),
        (
            score(2.0, 1.9, 2.1),
            {"before": {"loss": score(2.0, 1.9, 2.1)}, "best_step": 0},
            "no",
            "No step made the base better",
        ),
    ],
)
def test_a_loss_is_judged_by_frequencies_or_by_the_base(
    loss: Any, more: Any, worked: str, reason: str
) -> None:
    found = verdict(figures(loss, **more))
    assert found.worked == worked and reason in found.because and "nats per token" in found.because
    if "unigram_loss" in more and loss["interval"]:  # the same in bits per byte
        bits = score(*(value / 2 for value in (loss["value"], *loss["interval"])))
        again = verdict(figures(loss, **more, bits_per_byte=bits))
        assert again.worked == worked and "bits per byte" in again.because and "3.5" in again.because


def test_the_summary_has_accuracy_beside_the_majority_and_the_gain_of_a_base() -> None:
    before = {"loss": score(0.7, 0.6, 0.8), "accuracy": score(0.49, 0.4, 0.6)}
    known = {
        "accuracy": score(0.94, 0.93, 0.95),
        "majority_share": MAJORITY,
        "macro_f1": score(0.5, 0.4, 0.6),
    }
    rows = summary_rows(figures(LOSS, before=before, entity_f1=score(0.3, 0.2, 0.4), **known))
    assert rows["accuracy"] == "94.0% (93.0% to 95.0%); most frequent label 92.0%"
    assert rows["macro-F1"] == "0.500 (0.400 to 0.600)" and rows["entity F1"] == "0.300 (0.200 to 0.400)"
    assert rows["held-out loss"] == "0.3000 (0.2000 to 0.4000) nats per label"
    assert rows["before training"] == "accuracy 49.0%, 0.7000 nats per label"
    assert "token" not in " ".join([*rows, *rows.values()]) and "95% intervals" in rows["measured on"]
    text = summary_rows(figures(score(3.0, 2.9, 3.1), bits_per_byte=score(1.0, 0.9, 1.1), unigram_loss=7.0))
    assert text["bits per byte"] == "1.0000 (0.9000 to 1.1000)"
    assert text["token frequencies"] == "7.0000 nats per token"
    assert best_step_text(figures(LOSS)) == "40 of 50"
    assert best_step_text(figures(LOSS, best_step=0, before=before)).startswith("0: the base's own weights")


@pytest.mark.parametrize("accuracy", [score(1.0, 0.95, 1.0), score(0.2, 0.1, 0.3)])
def test_few_records_say_nothing(accuracy: dict[str, Any]) -> None:
    def judged(**more: Any) -> Any:
        return verdict(figures(LOSS, accuracy=accuracy, majority_share=MAJORITY, **more))

    few = judged(num_records=4)
    assert few.worked == "too few to say" and few.because.startswith("4 held-out records, 30 are needed: add")
    assert judged(num_records=29).worked == "too few to say" != judged(num_records=30).worked
    sampled = judged(num_records=29, num_records_held_out=200)
    assert sampled.because.endswith("set training.evaluate_tokens=0 to measure all 200.")
    text = figures(score(5.0, 4.8, 5.2), unigram_loss=7.0, num_records=4)
    assert verdict(text, is_text=True).worked == "yes" and verdict(text).worked == "too few to say"


def test_entities_that_are_all_right_are_no_doubt() -> None:
    right = {"value": 1.0, "interval": None}
    found = figures(LOSS, accuracy=score(1.0, 0.95, 1.0), majority_share=MAJORITY, entity_f1=right)
    assert verdict(found).worked == "yes"


def test_the_summary_has_labels_samples_and_missing_intervals() -> None:
    counts = {"Lob": [1, 0], "ham": [309, 41], "spam": [106, 14], "rare": [2, 0]}
    macro = {"value": 0.5, "interval": None}
    labelled: dict[str, Any] = {"accuracy": LOSS, "majority_share": MAJORITY, "macro_f1": macro}
    known = {"num_records": 20, "num_targets": 20, "num_records_held_out": 57, "label_counts": counts}
    rows = summary_rows(figures(LOSS, **labelled) | known)
    assert rows["macro-F1"] == "0.500; its interval is not measurable with 20 records"
    alike = summary_rows(figures(LOSS, **labelled, num_records=400))["macro-F1"]
    assert alike == "0.500; its interval is not measurable where all records are alike"
    assert rows["measured on"].startswith("a sample of 20 of 57 held-out records, 20 labels")
    assert rows["labels"] == (
        "ham 309 (held out: 41), spam 106 (held out: 14); rare: 2 records, not measured; "
        "Lob: 1 record, not measured"
    )
    many = label_counts_text({str(n): [9, n % 2] for n in range(100)}, "word")
    assert many.count("held out") == 8 and ", and 42 more; 0: 9 words, not" in many
    assert many.endswith("; 30 more labels are not measured")


@pytest.mark.parametrize(
    ("before", "after", "interval", "p_value", "worked", "reason"),
    [
        (0.4, 0.6, [0.1, 0.3], 0.001, "yes", "difference is +0.100 to +0.300"),
        (0.4, 0.5, [-0.1, 0.3], 0.2, "not shown", "difference is -0.100 to +0.300"),
        (0.6, 0.4, [-0.3, -0.1], 0.001, "no", "worse. The base's own weights are kept."),
        (0.0, 1.0, None, 0.001, "yes", "all records differ alike"),
        (0.5, 0.5, None, 1.0, "not shown", "all records differ alike"),
        (1.0, 0.0, None, 0.001, "no", "worse"),
        (0.4, 0.6, None, None, "too few to say", "30 are needed"),
    ],
)
def test_a_task_is_judged_by_its_answers(
    before: float, after: float, interval: Any, p_value: float | None, worked: str, reason: str
) -> None:
    difference = {"value": after - before, "interval": interval, "p_value": p_value}
    both = {"before": {"value": before}, "after": {"value": after}, "difference": difference}
    task = {
        "metric": "f1",
        "num_records": 40,
        "metrics": {"f1": both},
        "is_worse": reason.startswith("worse"),
    }
    found = verdict(figures(LOSS, task=task))
    assert found.worked == worked and reason in found.because


def test_answers_of_the_base_itself_are_no_success() -> None:
    both = {
        "before": {"value": 0.4},
        "after": {"value": 0.4},
        "difference": {"interval": None, "p_value": 1.0},
    }
    task = {"metric": "f1", "num_records": 40, "metrics": {"f1": both}, "is_worse": False}
    found = verdict(figures(LOSS, task=task, best_step=0))
    assert found.worked == "no" and "No step made the base better" in found.because
