"""Answers of a model: labels by likelihood beside `lm.score`, generated texts, heads, whole texts."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.task_models import HEADS, decoder, encoder_decoder, headed

from seedbed.base.errors import SeedbedWarning, UsageError
from seedbed.evaluation.answering import CONTENT_FREE, Answering, same_shots
from seedbed.evaluation.metrics.likelihood import LIKELIHOODS
from seedbed.evaluation.records import Record, record_of
from seedbed.evaluation.shots import nearest_shots
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel

LABELS = ("good", "bad", "good garden")
CLASSIFY = TaskSettings(use_case="classify", labels=LABELS)


def records(settings: TaskSettings, *rows: dict[str, Any]) -> list[Record]:
    return [record_of(row, settings, f"r:{n}") for n, row in enumerate(rows, 1)]


SHOTS = records(
    CLASSIFY,
    *(
        {"text": "a garden", "label": "good"},
        {"text": "small", "label": "bad"},
        {"text": "a", "label": "bad"},
    ),
)
TESTED = records(
    CLASSIFY, *({"text": text} for text in ("a small garden", "seed", "a a a", "rain in the sun"))
)


def answering(lm: LanguageModel, settings: TaskSettings = CLASSIFY, **how: Any) -> Answering:
    how = {"how": settings.task.answering, "chat": False, "shots": same_shots([])} | how
    return Answering(lm=lm, settings=settings, **how)


@pytest.mark.parametrize("num_shots", [0, 1, 3])
@pytest.mark.parametrize("kind", ["bpe", "unigram", "chat", "encoder-decoder"])
def test_likelihoods_are_those_of_each_label_alone(kind: str, num_shots: int) -> None:
    lm = {"chat": decoder(400, chat=True), "encoder-decoder": encoder_decoder()}.get(kind)
    lm = lm or decoder(kind=kind)
    made = answering(lm, chat=kind == "chat", shots=same_shots(SHOTS[:num_shots]))
    assert made.prompts is not None
    endings = made.prompts.endings(CLASSIFY.words)
    for record, answer in zip(TESTED, made.answer(TESTED), strict=True):
        prompt = made.prompts.whole(record, SHOTS[:num_shots])
        before = prompt if isinstance(prompt, str) else lm.chat_ids(prompt)
        alone = [lm.score(before, ids) for ids in endings]
        means = np.array([score.logprob / len(score.token_ids) for score in alone])
        assert answer.logprobs == pytest.approx(means, abs=1e-4) and answer.num_shots == num_shots
        assert answer.output == LABELS[means.argmax()]
        assert answer.score == pytest.approx(np.exp(means).max() / np.exp(means).sum(), abs=1e-5)
    if kind in ("bpe", "encoder-decoder"):
        space = " " if kind == "bpe" else ""
        assert alone[0].token_ids == lm.score(before, f"{space}good").token_ids


def test_each_record_has_its_own_nearest_examples() -> None:
    lm = decoder()
    made = answering(lm, shots=nearest_shots(SHOTS, 1, "bm25", lm))
    assert made.prompts is not None
    for record, shot, answer in zip(TESTED[:2], (SHOTS[1], SHOTS[0]), made.answer(TESTED[:2]), strict=True):
        prompt = str(made.prompts.whole(record, [shot]))
        score = lm.score(prompt, " good")
        assert answer.logprobs is not None
        assert answer.logprobs[0] == pytest.approx(score.logprob / len(score.token_ids), abs=1e-4)


def test_examples_beyond_the_context_are_left_out_and_said_once() -> None:
    shots = [record_of({"text": f"a garden {n}", "label": "good"}, CLASSIFY, "s") for n in range(20)]
    made = answering(decoder(context=100), shots=same_shots(shots))
    with pytest.warns(SeedbedWarning, match=r"context of 100 tokens has no room for all 20 examples") as said:
        first = made.answer(TESTED)
        assert made.answer(TESTED) == first
    assert len(said) == 1
    used = first[0].num_shots
    alone = answering(decoder(context=100), shots=same_shots(shots[20 - used :])).answer(TESTED[:1])
    assert 0 < used < 20 and first[0].logprobs == pytest.approx(alone[0].logprobs, abs=1e-4)
    with pytest.warns(SeedbedWarning, match="prompts have fewer, at least 0"):
        small = answering(decoder(context=16), shots=same_shots(SHOTS[:1])).answer(TESTED[1:2])
    assert small[0].num_shots == 0


def test_calibration_is_subtracted() -> None:
    scores = np.array([[-1.0, -3.0, -9.0], [-2.0, -2.5, -9.0], [-1.5, -2.0, -9.0]])
    made = answering(decoder(), calibration=dict(zip(LABELS, scores.mean(0), strict=True)))
    assert [label for label, _ in made.chosen(scores)] == ["good", "bad", "bad"]
    plain = answering(decoder()).chosen(scores)
    assert {label for label, _ in plain} == {"good"}
    assert plain[0][1] == pytest.approx(1 / (1 + math.exp(-2) + math.exp(-8)))


def test_content_free_calibration_is_the_mean_after_inputs_that_say_nothing() -> None:
    """Also of a prompt with fields of the records."""
    settings = replace(CLASSIFY, prompt="{title}{labels}\n{input}\nLabel:")
    found = answering(decoder(), settings).content_free()
    prompts = [f"{', '.join(LABELS)}\n{text}\nLabel:" for text in CONTENT_FREE]
    for label in LABELS:
        scores = [decoder().score(prompt, f" {label}") for prompt in prompts]
        assert found[label] == pytest.approx(
            np.mean([score.logprob / len(score.token_ids) for score in scores]), abs=1e-4
        )


@pytest.mark.parametrize("kind", ["text", "chat", "encoder-decoder"])
@pytest.mark.parametrize("num_shots", [0, 1])
def test_generated_answers_are_those_of_generate(kind: str, num_shots: int) -> None:
    settings = TaskSettings(use_case="answer", max_new_tokens=6)
    lm = encoder_decoder() if kind == "encoder-decoder" else decoder(chat=kind == "chat")
    shots = records(settings, {"question": "a seed", "answer": "leaf"})[:num_shots]
    rows = ({"question": "what grows", "context": "a seed grows"}, {"question": "rain"}, {"question": "sun"})
    tested = records(settings, *rows)
    made = answering(lm, settings, chat=kind == "chat", shots=same_shots(shots))
    assert made.prompts is not None
    for record, answer in zip(tested, made.answer(tested), strict=True):
        whole = made.prompts.whole(record, shots)
        prompt = whole if isinstance(whole, str) else lm.chat_ids(whole)
        stop = () if kind == "chat" else ("\n", "\n\n")[: 1 + num_shots]
        alone = lm.generate(prompt, 6, temperature=0.0, stop=stop, logprobs=1)
        assert answer.text == alone.text and answer.output == str(alone.text).strip()
        each = [one.logprob for one in alone.logprobs or ()]
        assert answer.score == pytest.approx(math.exp(sum(each) / len(each)), abs=1e-4)
    assert "a seed grows" in str(made.prompts.whole(tested[0], []))


def test_blank_lines_end_an_answer_only_behind_examples() -> None:
    """A function has blank lines; without examples nothing says that they end an answer."""
    made = answering(decoder(), TaskSettings(use_case="code"))
    assert "\n\n" not in made.stops(has_examples=False)
    assert made.stops(has_examples=True) == (*made.stops(has_examples=False), "\n\n")
    own = TaskSettings(use_case="answer", separator="##")
    assert answering(decoder(), own).stops(has_examples=True) == ("\n", "##")
    assert answering(decoder(chat=True), own, chat=True).stops(has_examples=True) == ()


def test_answers_are_the_same_each_time_also_sampled_ones() -> None:
    settings = TaskSettings(use_case="write", max_new_tokens=8)
    tested = records(settings, {"prompt": "a seed"}, {"prompt": "rain"})
    generations: list[dict[str, Any]] = [{}, {"temperature": 1.0}, {"temperature": 1.0, "seed": 5}]
    for generation in generations:
        made = answering(decoder(), settings, generation=generation)
        assert made.answer(tested) == made.answer(tested)
    assert answering(decoder(), settings).answer(tested)[0].text != made.answer(tested)[0].text


def test_the_number_of_new_tokens_is_within_the_context() -> None:
    settings = TaskSettings(use_case="write")
    assert answering(decoder(context=60), settings).max_new_tokens == 30
    assert answering(decoder(context=60), replace(settings, max_new_tokens=50)).max_new_tokens == 50
    tested = records(settings, {"prompt": "a seed " * 12})
    with pytest.raises(UsageError, match=r"r:1 has \d+ tokens with its prompt and 49 for the answer"):
        answering(decoder(context=60), replace(settings, max_new_tokens=50)).answer(tested)


@pytest.mark.parametrize("num_shots", [0, 1])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_perplexity_and_bits_per_byte_beside_a_hand_computation(kind: str, num_shots: int) -> None:
    lm, settings = decoder(kind=kind), TaskSettings(use_case="write")
    rows = [
        {"prompt": "a seed", "completion": " grows a leaf"},
        {"prompt": "rain", "completion": " good 10\u00a0"},
    ]
    tested, shots = records(settings, *rows), records(settings, {"prompt": "sun", "completion": " tree"})
    shots = shots[:num_shots]
    made = answering(lm, settings, shots=same_shots(shots))
    found = made.likelihoods(tested)
    assert lm.tokenizer is not None
    logprob, tokens = 0.0, 0
    for row in rows:
        prompt = "sun tree\n\n" * num_shots + row["prompt"]
        ids = lm.tokenizer.encode(f"{prompt}{row['completion']}")[len(lm.tokenizer.encode(prompt)) :]
        logprob += lm.score(prompt, ids).logprob
        tokens += len(ids)
    size = sum(len(row["completion"].encode()) for row in rows)
    values = {name: float(metric(found)(np.ones((1, 2)))[0]) for name, metric in LIKELIHOODS.items()}
    assert values["perplexity"] == pytest.approx(math.exp(-logprob / tokens), rel=1e-4)
    assert values["bits_per_byte"] == pytest.approx(-logprob / math.log(2) / size, rel=1e-4)


def test_without_a_reference_the_text_itself_is_scored() -> None:
    lm, settings = decoder(chat=True), TaskSettings(use_case="write")
    for chat in (False, True):
        (found,) = answering(lm, settings, chat=chat).likelihoods(records(settings, {"text": "a seed grows"}))
        assert found.logprob == pytest.approx(lm.score("", "a seed grows").logprob, abs=1e-4)
        assert found.num_bytes == len("a seed grows")


def test_heads_answer_as_classify_and_tag() -> None:
    lm = headed("classification")
    tested = [replace(one, text=one.text) for one in TESTED]
    for record, answer in zip(tested, answering(lm, how="head").answer(tested), strict=True):
        alone = lm.classify(record.text)
        assert answer.output == alone.label and answer.score == pytest.approx(alone.scores[alone.label])
    lm, settings = headed("tagging"), TaskSettings(use_case="tag", labels=HEADS["tagging"])
    tested = records(settings, {"tokens": ["Ann", "good\u00a0seed", "rain"]}, {"text": "a seed " * 12})
    first, long = answering(lm, settings, how="head").answer(tested)
    alone_words = lm.tag(["Ann", "good\u00a0seed", "rain"]).words
    assert first.output == [word.label for word in alone_words]
    expected = math.prod(word.score for word in alone_words) ** (1 / 3)
    assert first.score == pytest.approx(expected) and len(long.output) == 24 and 0 < long.score < 1


@pytest.mark.parametrize(("kind", "use_case"), [("classification", "classify"), ("tagging", "tag")])
def test_a_text_that_a_head_cannot_read_is_named(kind: str, use_case: str) -> None:
    settings = TaskSettings(use_case=use_case, labels=HEADS[kind])
    tested = records(settings, {"text": "a seed"}, {"text": "seed " * 80})
    with pytest.raises(UsageError, match=r"r:2: the row has \d+ tokens, but the context holds 64"):
        answering(headed(kind), settings, how="head").answer(tested)


@pytest.mark.parametrize(
    ("lm", "use_case", "how", "part"),
    [
        (
            "classification",
            "summarize",
            "generation",
            "has a classification head, so it cannot answer the task",
        ),
        ("tagging", "classify", "likelihood", "has a tagging head"),
        ("classification", "summarize", "head", "the task summarize has no head"),
        (
            "lm",
            "classify",
            "head",
            r"not answered by this model's head \(lm\); a classification head is needed",
        ),
        ("classification", "tag", "head", r"this model's head \(classification\); a tagging head is needed"),
    ],
)
def test_a_model_that_cannot_do_a_task(lm: str, use_case: str, how: Any, part: str) -> None:
    made = decoder() if lm == "lm" else headed(lm)
    with pytest.raises(UsageError, match=part):
        answering(made, TaskSettings(use_case=use_case, labels=("a", "b")), how=how)
