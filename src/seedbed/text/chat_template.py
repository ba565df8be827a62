"""Chat templates: from messages to the token ids that a model was trained to answer.

A template is a Jinja program that comes with the model (`chat_template` of its tokenizer). It is rendered as
transformers does it, with trim_blocks and lstrip_blocks, in a process with limits, from JSON alone.

A user's text keeps its letters and gets marks, noncharacters of Unicode that no text may contain (section
23.7): around the name of a special token, and at an end that could grow into one. In the rendered text a name
without marks is the template's own. The whole is encoded at once, so tokens merge across the marks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import tokenizers

from seedbed.base.errors import BundleError, UsageError
from seedbed.text.library import library_errors
from seedbed.text.special_tokens import NAMES
from seedbed.text.template_worker import WORKER
from seedbed.text.tokenizer import Tokenizer, refuse_surrogates

Message = Mapping[str, Any]

# The tag with which transformers finds what the assistant said; `if true` takes its place.
GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")
INNER_ATTRIBUTE = re.compile(r"""(?:\.\s*|[\[(]\s*["'])(__\w+)""")
ADVICE = "put a sound template in chat_template.jinja beside tokenizer.json, or use `generate`"
OPEN, CLOSE, SEAM = "\ufdd0", "\ufdd1", "\ufdd2"  # around a name in a user's text; at an end of that text
BEGIN, END = "\ufdd3", "\ufdd4"  # around the id of a special token
RESERVED = re.compile(f"[{OPEN}-{END}]")


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
        return RESERVED.sub("", self._render(messages, add_generation_prompt))

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
        line = " ".join(RESERVED.sub("", reason).split())[:300]
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


class TemplateEncoder:
    """Marks users' texts for a template, and encodes the rendered text.

    Special tokens are here also the added ones that occur in the template's source (`<think>`), white space
    excepted, as in transformers' `sanitize_control_tokens`: text in a user's message, tokens in the model's.
    """

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self._tokenizer = tokenizer
        self._ids = {
            token.content: i
            for i, token in tokenizer.added_tokens.items()
            if token.content and (token.special or (token.content in source and not token.content.isspace()))
        }
        names = sorted(self._ids, key=len, reverse=True)  # the longest first, as the library matches
        self._pattern = re.compile(_any_of(names))
        special = [name for name in names if self._ids[name] in tokenizer.special_ids]
        self._special = re.compile(_any_of(special))
        self._marked = re.compile(f"{OPEN}({self._pattern.pattern}){CLOSE}|[{OPEN}{CLOSE}{SEAM}]")
        self._heads = {name[:n] for name in names for n in range(1, len(name))}
        self._tails = {name[n:] for name in names for n in range(1, len(name))}
        self._longest = max(map(len, names), default=1)

    def mark(self, value: Any, *, by_model: bool = False) -> Any:
        """A copy of a JSON value with every text in it marked; UsageError for a text with marks in it."""
        if isinstance(value, dict):
            return {self.mark(key): self.mark(inner, by_model=by_model) for key, inner in value.items()}
        if not isinstance(value, str):
            return [self.mark(v, by_model=by_model) for v in value] if isinstance(value, list) else value
        refuse_surrogates([value])
        if found := RESERVED.search(value):
            raise UsageError(
                f"the text has U+{ord(found[0]):04X} at character {found.start()}, a noncharacter that "
                "Unicode keeps for programs' own use; remove it"
            )
        sizes = range(1, min(self._longest, len(value) + 1))
        before = SEAM if any(value[:n] in self._tails for n in sizes) else ""
        after = SEAM if any(value[-n:] in self._heads for n in sizes) else ""
        pattern = self._special if by_model else self._pattern
        return before + pattern.sub(f"{OPEN}\\g<0>{CLOSE}", value) + after

    def encode(self, rendered: str) -> list[int]:
        """The ids of a rendered text: the template's names become special tokens, users' stay text.

        Errors: UsageError where the tokenizer makes a special token of plain text.
        """
        core, ids = self._renamed
        parts = self._marked.split(rendered)  # template, a name in a user's text or None, template, ...
        texts = [
            part if at % 2 else self._pattern.sub(lambda m: _stand_in(self._ids[m[0]]), part)
            for at, part in enumerate(parts)
            if part
        ]
        with library_errors("the tokenizer"):
            found = core.encode_batch_fast(["".join(texts)], add_special_tokens=False)[0].ids
        plain = {*self._ids.values()} - {self._tokenizer.unk_id}
        forged = next((i for i in found if i not in ids and i in plain), None)
        if forged is not None:
            raise UsageError(
                f"this tokenizer makes the special token {self._tokenizer.token(forged)} of plain text; "
                "remove it from the message"
            )
        return [ids.get(i, i) for i in found]

    @cached_property
    def _renamed(self) -> tuple[tokenizers.Tokenizer, dict[int, int]]:
        """The tokenizer with special tokens named as no text is; the ids of its added tokens to ours."""
        tree, special = self._tokenizer.definition(), {*self._ids.values()}
        names = {token["id"]: token["content"] for token in tree["added_tokens"]}
        names |= {i: _stand_in(i) for i in special}
        for token in tree["added_tokens"]:
            token["content"] = names[token["id"]]
            token["normalized"] &= token["id"] not in special
        tree["post_processor"] = None
        with library_errors("the tokenizer"):
            core = tokenizers.Tokenizer.from_str(json.dumps(tree))
        ids = {found: i for i, name in names.items() if (found := core.token_to_id(name)) is not None}
        others = {*core.get_vocab(with_added_tokens=False).values()}
        if any(_stand_in(true) == names[true] and i in others for i, true in ids.items()):
            raise BundleError(
                "the tokenizer's vocabulary has gaps, so special tokens cannot be distinguished from text; "
                "use `generate`, which completes text"
            )
        return core, ids


def _any_of(names: list[str]) -> str:
    return "|".join(map(re.escape, names)) or "(?!)"


def _stand_in(token_id: int) -> str:
    return f"{BEGIN}{token_id}{END}"
