"""Chat templates: from messages to the token ids that a model was trained to answer.

A template is a Jinja program that comes with the model (`chat_template` of its tokenizer). It is rendered as
transformers does it, with trim_blocks and lstrip_blocks, in a process with limits, from JSON alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from seedbed.base.errors import BundleError, UsageError
from seedbed.text.special_tokens import NAMES
from seedbed.text.template_encoder import TemplateEncoder
from seedbed.text.template_worker import WORKER
from seedbed.text.tokenizer import Tokenizer

Message = Mapping[str, Any]

# The tag with which transformers finds what the assistant said; `if true` takes its place.
GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")
INNER_ATTRIBUTE = re.compile(r"""(?:\.\s*|[\[(]\s*["'])(__\w+)""")
ADVICE = "put a sound template in chat_template.jinja beside tokenizer.json, or use `generate`"


class ChatTemplate:
    """A model's own template over its tokenizer.

    Errors: BundleError in one line for a template that fails, takes too long or reads private attributes;
    UsageError for invalid messages, or messages that the template refuses.
    """

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        if found := INNER_ATTRIBUTE.search(source):
            raise BundleError(
                f"the model's chat template reads the attribute {found[1]}, which no template needs; {ADVICE}"
            )
        self.source, self.tokenizer = source, tokenizer
        self._source = GENERATION.sub(lambda m: f"{m[1]}{'endif' if m[2] else 'if true'}{m[3]}", source)
        self._encoder = TemplateEncoder(tokenizer, source)
        names = {role: tokenizer.special_name(role) for role in NAMES}
        self._variables = {role: name for role, name in names.items() if name is not None}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ChatTemplate | None:
        """The template in a tokenizer's config, the one named `default` of several; None without one."""
        found = tokenizer.config.get("chat_template")
        if isinstance(found, list):
            named = {str(one.get("name")): one.get("template") for one in found if isinstance(one, dict)}
            found = named.get("default", next(iter(named.values()), None) if len(named) == 1 else None)
        elif isinstance(found, dict):
            found = found.get("default")
        if not found:
            return None
        if not isinstance(found, str):
            raise BundleError(f"the chat template is a {type(found).__name__}, not a text; {ADVICE}")
        return cls(found, tokenizer)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The text of messages as the model reads it, for display."""
        return self._encoder.unmark(self._render(messages, add_generation_prompt))

    def encode(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """The ids of messages; names of special tokens in a message stay text."""
        return self._encoder.encode(self._render(messages, add_generation_prompt))

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        variables: dict[str, Any] = {"tools": None, "documents": None} | self._variables
        try:
            marked = [
                self._encoder.mark(message, by_model=message["role"] == "assistant")
                for message in check_messages(messages)
            ]
        except RecursionError:
            raise UsageError("a message has lists nested too deeply; give texts") from None
        variables |= {"messages": marked, "add_generation_prompt": add_generation_prompt}
        answer = WORKER.render(self._source, variables)
        if "text" in answer:
            return str(answer["text"])
        ((problem, reason),) = answer.items()
        line = " ".join(self._encoder.unmark(reason).split())[:300]
        if problem == "refused":
            raise UsageError(f"the model's chat template refuses these messages: {line}; change them")
        verb = "does not end" if problem == "endless" else "fails"
        raise BundleError(f"the model's chat template {verb}: {line}; {ADVICE}")


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
        texts: list[Any] = [
            p.get("text") if isinstance(p, Mapping) and p.get("type") == "text" else None for p in content
        ]
        for part, text in zip(content, texts, strict=True):
            if not isinstance(text, str):
                raise UsageError(
                    f"message {at} has the part {str(part)[:60]!r}; this model reads text: give "
                    '{"type": "text", "text": ..} alone'
                )
        kept["content"] = content = "".join(texts)
    if not isinstance(content, str) and (content is not None or "tool_calls" not in kept):
        raise UsageError(
            f"message {at} has the content {str(content)[:40]!r}; give a text, or a list of text parts"
        )
    try:
        return dict(json.loads(json.dumps(kept)))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"message {at} contains what JSON cannot represent: {error}; give texts and numbers"
        ) from None
