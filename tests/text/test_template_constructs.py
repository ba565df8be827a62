"""Chat templates write what they write with transformers: 26 that use all constructs, in nine dialogues."""

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.text.test_chat_template import make_tokenizer, template_of, transformers_tokenizer

from seedbed.base.errors import SeedbedError

CONSTRUCTS = {
    file.stem: file.read_text() for file in sorted((Path(__file__).parent / "constructs").glob("*.jinja"))
}
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Bergen", "days": 2}},
}
DIALOGUES: dict[str, list[dict[str, Any]]] = {
    "question": [{"role": "user", "content": "hello there"}],
    "system": [{"role": "system", "content": "  Be brief. \n"}, {"role": "user", "content": "why?"}],
    "turns": [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "The garden is small."},
        {"role": "user", "content": "How\n\nsmall?\n"},
        {"role": "assistant", "content": "Very."},
        {"role": "user", "content": "a"},
    ],
    "tool": [
        {"role": "user", "content": "weather in Bergen?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "rain", "tool_call_id": "c1", "name": "weather"},
        {"role": "tool", "content": "12 degrees", "tool_call_id": "c1"},
        {"role": "assistant", "content": "It rains."},
    ],
    "reasoning": [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4", "reasoning": "two and two\n"},
        {"role": "user", "content": "sure?"},
        {"role": "assistant", "content": "<think>\nagain\n</think>\n\nyes", "reasoning_content": None},
    ],
    "names": [
        {"role": "user", "content": "hello", "name": "ann"},
        {
            "role": "user",
            "content": "world",
            "name": "bob",
            "weight": 0.5,
            "flags": [True, None, {"x": [1, 2]}],
        },
    ],
    "letters": [
        {"role": "user", "content": "Grüße, 世界 🌱\tand\r\nso “on” & 'such' <b>"},
        {"role": "assistant", "content": "ÀÉÎ ß ǆ İ \u00a0\u2028 x"},
    ],
    "empty": [{"role": "system", "content": ""}, {"role": "user", "content": " "}],
    "assistant first": [{"role": "assistant", "content": "Hi!"}, {"role": "user", "content": "100"}],
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_what_transformers_renders_is_rendered_equally(name: str) -> None:
    source = CONSTRUCTS[name]
    made = make_tokenizer("bytes", source)
    ours, theirs = template_of(made), transformers_tokenizer(made, source)
    num_equal = 0
    for dialogue, messages in DIALOGUES.items():
        for prompt in (True, False):
            try:
                expected = theirs.apply_chat_template(
                    copy.deepcopy(messages), add_generation_prompt=prompt, tokenize=False
                )
            except Exception:  # of any kind; ours may be more lenient
                with suppress(SeedbedError):
                    ours.render(messages, add_generation_prompt=prompt)
                continue
            assert ours.render(messages, add_generation_prompt=prompt) == expected, dialogue
            num_equal += 1
    assert num_equal >= 6, f"transformers renders {num_equal} of these dialogues"
