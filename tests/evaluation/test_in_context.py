"""Labels by prompt: the examples that are chosen, the prompt, the context, and the scores themselves."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tests.models.reference import randomize

import seedbed
from seedbed.base.errors import SeedbedWarning, UsageError
from seedbed.evaluation.in_context import (
    Example,
    Prompt,
    calibrated,
    choose_shots,
    label_scores,
)
from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import family
from seedbed.text.training import train_tokenizer

POOL = [Example(f"text {n}", "abc"[n % 3 if n < 20 else 0]) for n in range(60)]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    tokenizer = train_tokenizer(["Text: a small garden\nLabel: good bad"], "bpe", vocab_size=290)
    config = replace(
        family("gpt2").sized(32, 2), vocab_size=tokenizer.vocab_size, max_positions=200, dropout=0.0
    )
    made = seedbed.new(config, tokenizer=tokenizer)
    randomize(made.module)
    return made


def test_balanced_shots_alternate_and_fewer_are_the_first_of_more() -> None:
    shots = choose_shots(POOL, 9, seed=3)
    assert Counter(shot.label for shot in shots) == {"a": 3, "b": 3, "c": 3}
    assert [shot.label for shot in shots[:3]] == [shot.label for shot in shots[3:6]]
    assert choose_shots(POOL, 4, seed=3) == shots[:4]
    assert choose_shots(POOL, 9, seed=4) != shots
    draws = [choose_shots(POOL, 9, choice="random", seed=seed) for seed in range(40)]
    assert len({tuple(draw) for draw in draws}) == 40
    share = Counter(shot.label for draw in draws for shot in draw)["a"] / 360
    assert 0.7 < share < 0.9  # 47 of 60 have it


def test_what_is_tested_is_never_among_the_shots() -> None:
    tested = [f" text {n} " for n in range(0, 60, 2)]
    for choice in ("balanced", "random"):
        shots = choose_shots(POOL, 30, choice=choice, apart_from=tested)  # type: ignore[arg-type]
        assert not {shot.text for shot in shots} & {text.strip() for text in tested}
    with pytest.raises(UsageError, match="num_shots=31 is more than the 30 examples that are not tested"):
        choose_shots(POOL, 31, apart_from=tested)


def test_the_prompt_is_reproducible_and_its_space_belongs_to_the_label() -> None:
    prompt = Prompt("Review: {input}\nSentiment: {target}")
    shots = [Example("fine", "good"), Example("{target} {input}", "bad")]
    assert prompt.asks(shots, "so so") == (
        "Review: fine\nSentiment: good\n\nReview: {target} {input}\nSentiment: bad\n\n"
        "Review: so so\nSentiment:"
    )
    assert prompt.of("", "good")[1] == " good"
    for wrong in ("{input}", "{target}", "{input} {input} {target}", "{target} {input}", "x"):
        with pytest.raises(UsageError, match=r"is not allowed: give a text with {input} once"):
            Prompt(wrong)


@pytest.mark.parametrize("num_shots", [0, 1, 3])
def test_scores_are_those_of_each_label_alone(num_shots: int, lm: LanguageModel) -> None:
    shots = [Example("a garden", "good"), Example("small", "bad"), Example("a", "good")][:num_shots]
    texts, labels = ["a small garden", "garden", "a a a"], ["good", "bad", "good garden"]
    found, used = label_scores(lm, texts, labels, shots=shots)
    assert used == num_shots and found.shape == (3, 3)
    for i, text in enumerate(texts):
        for j, label in enumerate(labels):
            alone = lm.score(Prompt().asks(shots, text), f" {label}")
            assert found[i, j] == pytest.approx(alone.logprob / len(alone.token_ids), abs=1e-4)


def test_shots_beyond_the_context_are_left_out_and_said(lm: LanguageModel) -> None:
    shots = [Example(f"a small garden {n}", "good") for n in range(20)]
    with pytest.warns(SeedbedWarning, match=r"\d+ of 20 examples are within the context of 200 tokens"):
        found, used = label_scores(lm, ["a garden"], ["good", "bad"], shots=shots)
    assert 0 < used < 20
    expected, _ = label_scores(lm, ["a garden"], ["good", "bad"], shots=shots[20 - used :])
    assert found == pytest.approx(expected)
    with pytest.raises(UsageError, match=r"the longest text has .* but the context holds 200"):
        label_scores(lm, ["garden " * 300], ["good", "bad"])


def test_calibration_takes_each_labels_mean_away() -> None:
    scores = np.array([[-1.0, -3.0], [-2.0, -2.5], [-1.5, -2.0]])
    found = calibrated(scores)
    assert found.mean(0) == pytest.approx([0, 0])
    # One label was the likelier one for every text; now both are found.
    assert set(scores.argmax(1)) == {0} and set(found.argmax(1)) == {0, 1}
