"""Chat templates: from messages to the token ids that a model was taught to answer.

A template is a program in Jinja that comes with the model (`chat_template` of its tokenizer). It is rendered
as transformers does it, trim_blocks and lstrip_blocks on, in a process with limits, and sees JSON alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from seedbed.base.errors import BundleError, UsageError
from seedbed.text.control import ControlEncoder
from seedbed.text.template_worker import WORKER
from seedbed.text.tokenizer import Tokenizer

Message = Mapping[str, Any]
SPECIAL_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# The tag with which transformers finds what the assistant said; a block that always holds takes its place.
GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")
INNER_ATTRIBUTE = re.compile(r"""(?:\.\s*|[\[(]\s*["'])(__\w+)""")
ADVICE = "put a sound template in chat_template.jinja beside tokenizer.json, or use `generate`"


class ChatTemplate:
    """A model's own template over its tokenizer.

    Errors: BundleError in one line for a template that fails, takes too long or reaches for attributes;
    UsageError for messages that cannot be, or that the template does not take.
    """

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        if found := INNER_ATTRIBUTE.search(source):
            raise BundleError(
                f"the model's chat template reaches for the attribute {found[1]}, which no template needs; "
                f"{ADVICE}"
            )
        self.source, self.tokenizer = source, tokenizer
        self._rendered = GENERATION.sub(_plain_block, source)
        self._control = ControlEncoder(tokenizer, source)
        names = {f"{name}_token": tokenizer.config.get(f"{name}_token") for name in SPECIAL_NAMES}
        self._variables = {key: _content(token) for key, token in names.items() if token}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ChatTemplate | None:
        """The template that a tokenizer's config has, of several the one named `default`; None without."""
        given = tokenizer.config.get("chat_template")
        if isinstance(given, list):
            named = {str(one.get("name")): one.get("template") for one in given if isinstance(one, dict)}
            given = named.get("default", next(iter(named.values()), None) if len(named) == 1 else None)
        elif isinstance(given, dict):
            given = given.get("default")
        if not given:
            return None
        if not isinstance(given, str):
            raise BundleError(f"the chat template is a {type(given).__name__}, not a text; {ADVICE}")
        return cls(given, tokenizer)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The text of messages as the model sees it, for people to read."""
        return self._control.unmark(self._render(messages, add_generation_prompt))

    def encode(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """The ids of messages; control strings that are part of a message stay text."""
        return self._control.encode(self._render(messages, add_generation_prompt))

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        variables: dict[str, Any] = {"tools": None, "documents": None} | self._variables
        try:
            marked = [
                self._control.mark(message, by_model=message["role"] == "assistant")
                for message in check_messages(messages)
            ]
        except RecursionError:
            raise UsageError("a message has lists within lists too deep; give texts") from None
        variables |= {"messages": marked, "add_generation_prompt": add_generation_prompt}
        said = WORKER.render(self._rendered, variables)
        if "refused" in said:
            raise UsageError(
                f"the model's chat template refuses these messages: {self._line(said['refused'])}; "
                "change them"
            )
        if "endless" in said:
            raise BundleError(f"the model's chat template does not end: {said['endless']}; {ADVICE}")
        if "error" in said:
            raise BundleError(f"the model's chat template fails: {self._line(said['error'])}; {ADVICE}")
        return str(said["text"])

    def _line(self, text: str) -> str:
        return " ".join(self._control.unmark(text).split())[:300]


def check_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A JSON copy of messages as OpenAI's API has them; text parts become one text, None is left out.

    Errors: UsageError naming the message.
    """
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise UsageError(
            f"messages are {str(messages)[:40]!r}; give a list such as "
            '[{"role": "user", "content": "a question"}]'
        )
    return [_check_message(message, at) for at, message in enumerate(messages)]


def _check_message(message: Message, at: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise UsageError(
            f"message {at} is {str(message)[:60]!r}; give an object with a text for its `role`, such as "
            '{"role": "user", "content": "a question"}'
        )
    kept = {str(key): value for key, value in message.items() if value is not None}
    content = kept.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        kept["content"] = content = "".join(_text_part(part, at) for part in content)
    if not isinstance(content, str) and (content is not None or "tool_calls" not in kept):
        raise UsageError(
            f"message {at} has the content {str(content)[:40]!r}; give a text, or a list of text parts"
        )
    try:
        return dict(json.loads(json.dumps(kept)))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"message {at} holds what JSON cannot: {error}; give texts and numbers") from None


def _text_part(part: Any, at: int) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise UsageError(
        f"message {at} has the part {str(part)[:60]!r}; this model reads text: give "
        '{"type": "text", "text": ..} alone'
    )


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _plain_block(tag: re.Match[str]) -> str:
    return f"{tag[1]}{'endif' if tag[2] else 'if true'}{tag[3]}"
