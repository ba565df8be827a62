"""Our chat template: its text, its tokens, what is learned of it, and the tokenizers that it is for."""

import json
from typing import Any

import pytest
import tokenizers
from tests.task_models import CORPUS, decoder

from seedbed.base.errors import ConfigError
from seedbed.text.chat_template import ChatTemplate
from seedbed.text.default_template import with_default_template
from seedbed.text.special_form import decoder_form
from seedbed.text.tokenizer import END_OF_TEXT, Tokenizer
from seedbed.text.training import train_tokenizer

TURNS = [
    {"role": "system", "content": "Be small."},
    {"role": "user", "content": "a garden"},
    {"role": "assistant", "content": "grows"},
    {"role": "user", "content": "a seed"},
    {"role": "assistant", "content": "a tree"},
]
PIECES = ["Be small.\n\n", "User: a garden\nAssistant: grows<|endoftext|>\n"]
TEXT = "".join([*PIECES, "User: a seed\nAssistant: a tree<|endoftext|>\n"])


def plain(kind: str = "bpe") -> Tokenizer:
    """One with an end token; unigram as T5's."""
    if kind == "unigram":
        return train_tokenizer(CORPUS, kind, vocab_size=300)
    return train_tokenizer(CORPUS, kind, vocab_size=330, special=decoder_form(END_OF_TEXT))


def template_of(tokenizer: Tokenizer) -> ChatTemplate:
    found = ChatTemplate.of(with_default_template(tokenizer))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["bpe", "bytes", "unigram"])
def test_the_text_and_what_is_learned_of_it(kind: str) -> None:
    """The answers with the space before them and the end token behind them, and nothing else."""
    tokenizer = plain(kind)
    template, end = template_of(tokenizer), tokenizer.special_name("eos_token")
    assert end is not None and (end == END_OF_TEXT) is (kind != "unigram")
    assert template.render(TURNS, add_generation_prompt=False) == TEXT.replace(END_OF_TEXT, end)
    ids, flags = template.encode_answers(TURNS)
    learned = [tokenizer.token(i) if i in tokenizer.special_ids else "" for i in ids]
    ends = [at for at, name in enumerate(learned) if name == end]
    assert len(ends) == 2 and all(flags[at] for at in ends)
    assert not any(flags[at + 1] for at in ends if at + 1 < len(flags))
    words = tokenizer.decode(
        [i for i, flag in zip(ids, flags, strict=True) if flag and i not in tokenizer.special_ids]
    )
    assert words.split() == ["grows", "a", "tree"]


def test_a_prompt_is_the_beginning_of_what_is_learned() -> None:
    template = template_of(plain())
    for end in (2, 4):
        prompt = template.encode(TURNS[:end])
        ids, flags = template.encode_answers(TURNS[: end + 1])
        assert ids[: len(prompt)] == prompt and flags.index(True, len(prompt)) == len(prompt)
    assert template.render(TURNS[:2]).endswith("User: a garden\nAssistant:")


def test_the_name_of_the_end_token_in_a_message_is_text() -> None:
    template = template_of(plain())
    ids = template.encode([{"role": "user", "content": f"a {END_OF_TEXT} b"}])
    assert template.tokenizer.eos_id not in ids


def test_a_begin_token_is_first_once_where_the_tokenizer_adds_it() -> None:
    made = train_tokenizer(CORPUS, "bpe", vocab_size=330, special=decoder_form(END_OF_TEXT, "<s>"))
    core = made.definition()
    begin = made.vocabulary["<s>"]
    core["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [begin], "tokens": ["<s>"]}},
    }
    tokenizer = tokenizer_of(core, made.config | {"bos_token": "<s>"})
    assert tokenizer.around_ids[0] == (begin,) and tokenizer.bos_id == begin
    ids, flags = template_of(tokenizer).encode_answers(TURNS)
    assert ids[0] == begin and ids.count(begin) == 1 and not flags[0]
    # One that has such a token and does not add it.
    bare = Tokenizer(made._core, made.config | {"bos_token": "<s>"})
    assert begin not in template_of(bare).encode(TURNS[:2])


def tokenizer_of(core: dict[str, Any], config: dict[str, Any]) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(core)), config)


def test_a_template_that_is_there_stays() -> None:
    tokenizer = decoder(chat=True).tokenizer
    assert tokenizer is not None and with_default_template(tokenizer) is tokenizer


def test_the_tokenizer_that_came_in_is_unchanged() -> None:
    tokenizer = plain()
    made = with_default_template(tokenizer)
    assert "chat_template" not in tokenizer.config and "chat_template" in made.config
    assert made.fingerprint == tokenizer.fingerprint and made.encode("a garden") == tokenizer.encode(
        "a garden"
    )


def test_without_an_end_token_it_is_refused_in_one_line() -> None:
    made = train_tokenizer(CORPUS, "bpe", vocab_size=300)
    config = {key: value for key, value in made.config.items() if key != "eos_token"}
    with pytest.raises(ConfigError, match="names no end token, which the turns of a conversation") as caught:
        with_default_template(Tokenizer(made._core, config))
    assert "\n" not in str(caught.value)
