"""What the assistant says in a conversation: the tokens of transformers' mask, and of chats' own prompts."""

from typing import Any

import pytest
from tests.text.test_chat_template import (
    KINDS,
    NO_SYSTEM,
    TEMPLATES,
    make_tokenizer,
    pair,
    template_of,
    transformers_tokenizer,
)

from seedbed.base.errors import BundleError
from seedbed.text.tokenizer import Tokenizer

# The tag around what the assistant says, its end of turn included.
TAGGED = """{%- for m in messages %}
    {%- if m['role'] == 'assistant' %}
        {{- '<|assistant|>\n' }}
        {%- generation -%}
            {{- m['content'] | trim }}{{ '<|im_end|>' -}}
        {%- endgeneration -%}
        {{ '\n' }}
    {%- else %}
        {{- '<|' + m['role'] + '|>\n' + m['content'] + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"""
PLAIN = TAGGED.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hello  there <|im_end|>"},
    {"role": "assistant", "content": "The garden is small.\n\n Also: naïve 👩‍👩‍👧 "},
    {"role": "user", "content": "\nand  why?\n\n"},
    {"role": "assistant", "content": "<think>hm</think>\n\nhello"},
]
THINKS = "<think>hm</think>\n\n"


def answers(made: Tokenizer, messages: list[dict[str, Any]]) -> list[str]:
    """The texts of the runs of an answer's tokens."""
    template = template_of(made)
    ids, flags = template.encode_answers(messages)
    assert ids == template.encode(messages, add_generation_prompt=False)
    starts = [i for i, flag in enumerate(flags) if flag and not (i and flags[i - 1])]
    stops = [i + 1 for i, flag in enumerate(flags) if flag and flags[i + 1 : i + 2] != [True]]
    return [made.decode(ids[a:b], skip_special=False) for a, b in zip(starts, stops, strict=True)]


@pytest.mark.parametrize("style", ["tagged", "zephyr"])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_transformers(kind: str, style: str) -> None:
    template = TAGGED if style == "tagged" else TEMPLATES[style]
    made = make_tokenizer(kind, template)
    theirs = transformers_tokenizer(made, template)
    talk = [{**m, "content": m["content"].replace("<|im_end|>", "x")} for m in TALK]
    for messages in (talk, talk[:3], talk[1:], talk[1:3] * 3):
        expected: Any = theirs.apply_chat_template(
            messages, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, flags = template_of(made).encode_answers(messages)
        assert ids == expected["input_ids"]
        assert [int(flag) for flag in flags] == expected["assistant_masks"]
        assert 0 < sum(flags) < len(flags)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_find_the_answers_that_tags_mark(kind: str) -> None:
    tagged, plain = (template_of(make_tokenizer(kind, source)) for source in (TAGGED, PLAIN))
    for messages in (TALK, TALK[1:3], TALK[2:]):
        assert plain.encode_answers(messages) == tagged.encode_answers(messages)


EXPECTED = {
    "chatml": [f"{TALK[2]['content']}<|im_end|>", f"{THINKS}hello<|im_end|>"],
    "llama3": ["The garden is small.\n\n Also: naïve 👩‍👩‍👧<|eot|>", f"{THINKS}hello<|eot|>"],
    "mistral": [" The garden is small.\n\n Also: naïve 👩‍👩‍👧</s>", f" {THINKS}hello</s>"],
    "gemma": ["The garden is small.\n\n Also: naïve 👩‍👩‍👧<end_of_turn>", f"{THINKS}hello<end_of_turn>"],
    # Its prompt begins thoughts, which the template removes from answers.
    "thinking": [f"{TALK[2]['content']}<|im_end|>", "hello<|im_end|>"],
}


@pytest.mark.parametrize("style", EXPECTED)
def test_an_answer_and_its_end_of_turn_are_learned_and_nothing_else(style: str) -> None:
    _, _, made = pair("bytes", style)
    found = answers(made, TALK[1:] if style in (*NO_SYSTEM, "mistral") else TALK)
    assert found == EXPECTED[style]


def test_a_first_answer_has_no_question() -> None:
    _, _, made = pair("bytes", "chatml")
    assert answers(made, TALK[2:]) == EXPECTED["chatml"]
    first = {"role": "assistant", "content": "hello"}
    assert answers(made, [first, first]) == ["hello<|im_end|>"] * 2


def test_thoughts_that_the_template_keeps_in_the_last_turn_alone() -> None:
    template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n</think>' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    talk = [*TALK[1:4], {"role": "assistant", "content": "hello"}]
    found = answers(make_tokenizer("bytes", template), talk)
    assert found == [f"{TALK[2]['content']}<|im_end|>", "<think>\n</think>hello<|im_end|>"]


def test_a_template_that_hides_its_answers_is_refused() -> None:
    template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(BundleError, match="renders answers otherwise than it prompts for them"):
        template_of(make_tokenizer("bytes", template)).encode_answers(TALK)
