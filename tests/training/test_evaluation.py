"""Evaluation: a fixed sample of bounded size, intervals that hold, and the base before its first step."""

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tests.moments import At, kill

from seedbed.base.runtime import Runtime
from seedbed.data.batch import Example
from seedbed.data.records import Record, RecordSource
from seedbed.objectives.causal import Causal
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.evaluation import Validation, evaluate
from seedbed.training.intervals import _student, mean_interval, share_interval
from seedbed.training.metrics import read_metrics
from seedbed.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("batch_tokens", "num_steps", "every", "tokens"),
    [
        (8192, 1000, 100, 204_800),  # 12 evaluations read 0.3 of the tokens that are learned
        (8192, 50, 100, 40_960),
        (65_536, 1000, 100, 250_000),
        (1024, 20, 10, 8192),
    ],
)
def test_an_evaluation_takes_a_share_of_the_training(
    batch_tokens: int, num_steps: int, every: int, tokens: int
) -> None:
    settings = TrainingSettings(batch_tokens=batch_tokens, num_steps=num_steps, evaluate_every_steps=every)
    assert settings.affordable_evaluate_tokens() == tokens


def numbers_of(validation: Validation) -> list[int]:
    return [record.key[1] for record in validation.source.records(0, 0)]


def test_a_sample_is_fixed_bounded_and_read_longest_first() -> None:
    source = RecordSource([[1] * (2 + n % 17) for n in range(400)], shuffle=False)
    whole = Validation(source, Causal())
    sample = whole.sampled(500, seed=3)
    lengths = [len(record.ids) - 1 for record in sample.source.records(0, 0)]
    assert 480 < sum(lengths) <= 500 and lengths == sorted(lengths, reverse=True)
    chosen = numbers_of(sample)
    assert chosen == numbers_of(whole.sampled(500, seed=3)) != numbers_of(whole.sampled(500, seed=4))
    assert len(set(chosen)) == len(chosen) and 150 < np.mean(chosen) < 250
    assert whole.sampled(0, seed=3) is whole
    assert sorted(numbers_of(whole.sampled(10**6, seed=3))) == list(range(400))
    assert len(numbers_of(whole.sampled(1, seed=3))) == 1


def test_a_sample_costs_what_it_reads_whatever_the_corpus_has() -> None:
    made = []

    class Counts(Causal):
        def example(self, record: Record, seed: int) -> Example:
            made.append(record.key)
            return super().example(record, seed)

    for count in (1000, 20_000):
        made.clear()
        sample = Validation(RecordSource([[1] * 11] * count), Counts()).sampled(5000, seed=0)
        assert len(made) == 501 and len(numbers_of(sample)) == 500


def test_the_interval_of_a_loss_has_the_true_loss_in_95_of_100() -> None:
    random = np.random.default_rng(0)
    found = []
    for _ in range(1000):
        sizes = random.integers(1, 200, 25).astype(float)
        interval = mean_interval(sizes * random.normal(3.0, 0.5, 25), sizes)
        assert interval is not None
        found.append(interval[0] < 3.0 < interval[1])
    assert 0.92 < np.mean(found) < 0.97
    assert mean_interval(np.ones(1), np.ones(1)) is None
    # Two-sided quantiles of Student's t, tabulated.
    table = {1: 12.706, 4: 2.776, 5: 2.571, 10: 2.228, 39: 2.023}
    assert all(_student(n) == pytest.approx(t, rel=3e-3) for n, t in table.items())


def test_the_interval_of_an_accuracy_is_wilson_s_over_what_is_independent() -> None:
    low, high = share_interval(np.repeat([1.0, 0.0], [150, 50]), np.ones(200))
    for end in (low, high):  # at an end the share that was seen is 1.96 standard errors away
        assert (0.75 - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / 200)
    # 20 texts of 10 words, each right or wrong as a whole, are 20 trials and not 200.
    clustered = share_interval(np.repeat([10.0, 0.0], [15, 5]), np.full(20, 10.0))
    assert clustered == pytest.approx(share_interval(np.repeat([1.0, 0.0], [15, 5]), np.ones(20)))
    # All right says something about few records, and is not certainty.
    assert share_interval(np.ones(3), np.ones(3))[0] == pytest.approx(3 / (3 + 1.96**2))


def test_lines_have_intervals_that_a_sample_of_the_corpus_contains(tiny: ModuleType, tmp_path: Path) -> None:
    module, _ = tiny.start(tmp_path / "run")
    line = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    low, high = line["loss_interval"]
    assert low < line["loss"] < high
    bits = line["bits_per_byte"] / line["loss"]
    assert line["bits_per_byte_interval"] == pytest.approx([low * bits, high * bits])
    per_target = 500 / line["num_targets"]
    rows = tiny.records(600, seed=2)
    whole = Validation(RecordSource(rows, shuffle=False), Causal(), per_target)
    arguments: dict[str, Any] = {"batch_tokens": 96, "seed": 0, "runtime": Runtime()}
    everything, part = (evaluate(module, v, **arguments) for v in (whole, whole.sampled(3000, seed=1)))
    assert everything is not None and part is not None and len(part.nats) < 300
    figures = part.to_dict()
    assert figures["loss_interval"][0] < everything.loss < figures["loss_interval"][1]
    # Bits per byte of a sample are converted by the bytes per token of all of the text.
    assert figures["bits_per_byte"] == pytest.approx(part.loss / math.log(2) / per_target)


def test_a_base_is_measured_before_its_first_step_and_may_stay_the_best(
    tiny: ModuleType, tmp_path: Path
) -> None:
    """A rate that only spoils the weights leaves the base's own as the best; a kill changes no bit."""
    changes = {"learning_rate": 1.0, "schedule": "constant", "evaluate_first": True, "num_steps": 8}
    _, progress = tiny.start(tmp_path / "whole", **changes)

    def lines(name: str) -> list[tuple[int, float]]:
        found = read_metrics(tmp_path / name / "metrics.jsonl")
        return [(line["step"], line["loss"]) for line in found if line["kind"] == "evaluation"]

    assert [step for step, _ in lines("whole")] == [0, 4, 8]
    assert progress.best_step == 0 and progress.best_loss == lines("whole")[0][1] == min(lines("whole"))[1]
    best, _ = Checkpoints(tmp_path / "whole" / "checkpoints").best()
    fresh = dict(tiny.network().named_parameters())
    assert best is not None and best.step == 0
    assert all((fresh[name] == tensor).all() for name, tensor in best.tensors("weights").items())
    for stop in (2, 6):  # before the first checkpoint, and after it
        name = f"stopped {stop}"
        with pytest.raises(KeyboardInterrupt):
            tiny.start(tmp_path / name, callbacks=[At("step", stop, kill)], **changes)
        _, again = tiny.start(tmp_path / name, **changes)
        assert replace(again, seconds=0) == replace(progress, seconds=0)
        assert lines(name) == lines("whole")
