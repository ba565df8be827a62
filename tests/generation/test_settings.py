"""The settings of an answer are defined once; everything that takes them has them all."""

from typing import Any, get_type_hints

import pytest

from seedbed.base.errors import SeedbedWarning, UsageError
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.settings import GenerationOptions, GenerationSettings, named_settings
from seedbed.models.family import Network
from seedbed.text.tokenizer import Tokenizer


@pytest.fixture
def talker(gpt2: Network, tokenizer: Tokenizer) -> LanguageModel:
    """A model whose template is what the first message says."""
    template = {"chat_template": "{{ messages[0].content }}"}
    return LanguageModel(gpt2, Tokenizer(tokenizer._core, tokenizer.config | template))


def test_keyword_arguments_have_the_names_and_types_of_the_settings() -> None:
    types = get_type_hints(GenerationSettings)
    assert types.pop("max_new_tokens") is int  # the second argument of each verb, with a default of its own
    assert get_type_hints(GenerationOptions) == types


def test_every_default_is_allowed_and_every_meaning_a_sentence() -> None:
    for name, setting, default in named_settings():
        assert default is None or name == "stop" or setting.allowed.contains(default), name
        assert setting.meaning.endswith("."), name


@pytest.mark.parametrize("method", ["generate", "chat", "stream"])
def test_an_unknown_name_is_refused_with_the_nearest(method: str, talker: LanguageModel) -> None:
    given = [{"role": "user", "content": "a"}] if method == "chat" else "a"
    with pytest.raises(UsageError, match=r"no setting 'tempratur' .*did you mean 'temperature'") as error:
        getattr(talker, method)(given, 3, tempratur=0.5)
    assert "\n" not in str(error.value) and "min_p" in str(error.value)


SAMPLED: dict[str, Any] = {
    "temperature": 1.5, "top_k": 90, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9,
    "repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "stop": "zz", "eos_ids": [3], "seed": 4,
    "logprobs": 2, "num_samples": 3,
}  # fmt: skip
SEARCHED: dict[str, Any] = {
    "num_beams": 3, "length_penalty": 0.5, "early_stopping": True, "no_repeat_ngram_size": 2,
    "num_samples": 2,
}  # fmt: skip


@pytest.mark.parametrize("how", [SAMPLED, SEARCHED])
def test_a_stream_takes_every_setting_of_generate(
    how: dict[str, Any], gpt2: Network, tokenizer: Tokenizer
) -> None:
    lm = LanguageModel(gpt2, tokenizer)
    assert {*SAMPLED, *SEARCHED} == {name for name, _, _ in named_settings()} - {"max_new_tokens"}
    streams = lm.stream("aa", 20, **how)
    assert isinstance(streams, list)
    texts = ["".join(stream) for stream in reversed(streams)]
    whole = lm.generate("aa", 20, **how)
    assert [stream.completion for stream in streams] == whole
    assert texts == [answer.text for answer in reversed(whole)]
    how = how | {"num_samples": 1}
    one, alone = lm.stream("aa", 20, **how), lm.generate("aa", 20, **how)
    text = "".join(one)
    assert one.completion == alone and text == alone.text


def test_streams_of_one_prompt_advance_together(gpt2: Network, tokenizer: Tokenizer) -> None:
    streams = LanguageModel(gpt2, tokenizer).stream("aa", 12, num_samples=2, seed=1, eos_ids=())
    assert isinstance(streams, list)
    next(streams[0])
    assert streams[1].completion is None and next(streams[1])


def test_chat_takes_them_all(talker: LanguageModel) -> None:
    messages = [{"role": "user", "content": "abcab"}]
    for how in ({"num_beams": 2, "no_repeat_ngram_size": 2}, {"min_p": 0.1, "seed": 1, "num_samples": 2}):
        assert talker.chat(messages, 6, **how) == talker.generate(list(b"abcab"), 6, **how)


@pytest.mark.parametrize("filters", [{"typical_p": 0.9}, {"top_k": 5, "top_p": 0.5}, {"min_p": 0.1}])
def test_a_filter_at_temperature_0_has_no_effect_and_says_so(
    filters: dict[str, float], gpt2: Network, tokenizer: Tokenizer
) -> None:
    lm = LanguageModel(gpt2, tokenizer)
    greedy = lm.generate("a", 5, temperature=0)
    with pytest.warns(SeedbedWarning, match=f"no effect at temperature 0, .* {', '.join(filters)}$"):
        assert lm.generate("a", 5, temperature=0, **filters) == greedy  # type: ignore[arg-type]
    lm.generate("a", 5, temperature=0, typical_p=1, min_p=0)  # off
