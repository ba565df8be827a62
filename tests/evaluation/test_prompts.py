"""Prompts of a task: their text, their tokens and those of the labels behind them, the context."""

from typing import Any

import pytest
from tests.task_models import decoder, encoder_decoder

import seedbed
from seedbed.base.errors import DataError, UsageError
from seedbed.evaluation.prompts import Prompts
from seedbed.evaluation.records import Record, record_of
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel

WORDS = {"1": "good", "0": "bad seed"}


def prompts(lm: LanguageModel | None = None, *, chat: bool = False, **settings: Any) -> Prompts:
    own = TaskSettings(**({"use_case": "classify", "labels": WORDS} | settings))
    return Prompts(lm or decoder(), own, chat=chat)


def record(text: str, label: Any = None, **more: Any) -> Record:
    return record_of({"text": text, "label": label, **more}, TaskSettings(use_case="classify"), f"r:{text}")


SHOTS = [record("fine", 1), record("{target} {input}", 0)]


def test_examples_are_before_the_question_and_fields_are_not_templates() -> None:
    made = prompts(prompt="Review: {input}\nSentiment: ")
    assert made.whole(record("so so"), SHOTS) == (
        "Review: fine\nSentiment: good\n\nReview: {target} {input}\nSentiment: bad seed\n\n"
        "Review: so so\nSentiment:"
    )
    assert made.text(record("a ")) == ("Review: a \nSentiment:", " ")
    made = prompts(separator="\n##\n", prompt="{labels}? {input}")
    assert made.whole(record("a  "), SHOTS[:1]) == "good, bad seed? fine good\n##\ngood, bad seed? a  "
    assert made.text(record("a  "))[1] == ""  # the record's own space is before the answer


def test_a_chat_has_examples_as_turns() -> None:
    made = prompts(decoder(chat=True), chat=True, instruction="{labels}: {input}")
    whole: Any = made.whole(record("so so"), SHOTS)
    assert [message["content"] for message in whole] == [
        *("good, bad seed: fine", "good", "good, bad seed: {target} {input}", "bad seed"),
        "good, bad seed: so so",
    ]
    assert [message["role"] for message in whole] == ["user", "assistant"] * 2 + ["user"]
    ids, kept = made.ids(record("so so"), SHOTS, room=0)
    assert list(ids) == decoder(chat=True).chat_ids(whole) and kept == 2


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("template", ["Text: {input}\nLabel:", "{input}", "a {input}\nroot\n", "{input} is"])
def test_labels_have_the_tokens_of_one_text(kind: str, template: str) -> None:
    lm = decoder(kind=kind)
    made = prompts(lm, prompt=template)
    question = made.text(record("a seed"))[0]
    space = "" if template.endswith("\n") else " "
    assert lm.tokenizer is not None
    start = lm.tokenizer.encode(question)
    for word, ids in zip(WORDS.values(), made.endings(WORDS), strict=True):
        whole = lm.tokenizer.encode(f"{question}{space}{word}")
        assert whole[: len(start)] == start and whole[len(start) :] == ids


def test_labels_of_a_chat_have_the_tokens_of_its_answers() -> None:
    lm = decoder(chat=True)
    (good, _) = prompts(lm, chat=True).endings(WORDS)
    assert lm.tokenizer is not None
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "good"}]
    before = [*lm.chat_ids(messages[:1]), *good]
    whole = lm.chat_template.encode(messages, add_generation_prompt=False)
    assert whole[: len(before)] == before
    assert lm.tokenizer.token(whole[len(before)]) == "<|im_end|>"
    assert lm.tokenizer.decode(good) == "good"


def test_labels_of_an_encoder_decoder_are_its_answers() -> None:
    lm = encoder_decoder()
    assert lm.tokenizer is not None
    assert prompts(lm).endings(WORDS) == [lm.tokenizer.encode(word) for word in WORDS.values()]


def test_the_first_examples_are_left_out_for_the_context() -> None:
    made = prompts(decoder(context=60))
    shots = [record(f"a small garden {n}", 1) for n in range(9)]
    ids, kept = made.ids(record("a seed"), shots, room=3)
    more = decoder().prompt_ids(made.whole(record("a seed"), shots[9 - kept - 1 :]))
    assert 0 < kept < 9 and len(ids) + 3 <= 60 < len(more) + 3
    assert ids == decoder().prompt_ids(made.whole(record("a seed"), shots[9 - kept :]))
    with pytest.raises(UsageError, match=r"r:garden.* has \d+ tokens .* and 3 for .* holds 60; leave"):
        made.ids(record("garden " * 80), shots, room=3)


@pytest.mark.parametrize("more", [{}, {"title": None}])
def test_a_field_that_a_record_lacks_is_named(more: dict[str, Any]) -> None:
    with pytest.raises(
        DataError, match=r"r:a: the prompt names \{title\}, but the record has only the fields"
    ):
        prompts(prompt="{title} {input}").text(record("a", **more))


def test_a_model_without_a_template_or_tokenizer() -> None:
    with pytest.raises(UsageError, match="has no chat template"):
        prompts(chat=True)
    with pytest.raises(UsageError, match="has no tokenizer; give a model with one"):
        prompts(seedbed.new(decoder().config))
