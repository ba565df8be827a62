"""Chat templates: from messages to the token ids that a model was trained to answer.

A template is a Jinja program that comes with the model (`chat_template` of its tokenizer). It is rendered as
transformers does it, by Jinja2's sandbox, in a process with limits, from JSON alone.

A user's text keeps its letters and gets marks, noncharacters of Unicode that no text may contain (section
23.7): around the name of a special token, and at an end that could grow into one. In the rendered text a name
without marks is the template's own. The whole is encoded at once, so tokens merge across the marks.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import tokenizers

from seedbed.base.errors import BundleError, UsageError
from seedbed.text.library import library_errors
from seedbed.text.special_tokens import NAMES
from seedbed.text.template_worker import WORKER
from seedbed.text.tokenizer import Tokenizer, refuse_surrogates

Message = Mapping[str, Any]

# The tag with which a template says what the assistant said.
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
INNER_ATTRIBUTE = re.compile(r"""(?:\.\s*|[\[(]\s*["'])(__\w+)""")
HALF = re.compile("[\ud800-\udfff]")
ADVICE = "put a sound template in chat_template.jinja beside tokenizer.json, or use `generate`"
REASONING = ("reasoning_content", "thinking", "reasoning")  # names of one thing, as transformers has them
OPEN, CLOSE, SEAM = "\ufdd0", "\ufdd1", "\ufdd2"  # around a name in a user's text; at an end of that text
BEGIN, END = "\ufdd3", "\ufdd4"  # around the id of a special token
FIRST, LAST = "\ufdd5", "\ufdd6"  # around what the assistant said
# The marks as Python's repr, JSON in ASCII and a URL escape them.
ESCAPED = re.compile(r"\\ufdd[0-6]|\\xef\\xb7\\x9[0-6]|%EF%B7%9[0-6]")
# In JSON: a name in a user's text, or the letter at an end that could grow into one.
NAMED = re.compile(r"(?<!\\)\\ufdd0.*?\\ufdd1|(?<!\\)\\ufdd2[^\"\\]|[^\"\\]\\ufdd2")
MAX_SOURCE = 1 << 20  # characters
RESERVED = re.compile(f"[{OPEN}-{LAST}]")


class ChatTemplate:
    """A model's own template over its tokenizer.

    Errors: BundleError in one line for a template that fails, takes too long or reads private attributes;
    UsageError for invalid messages, or messages that the template refuses.
    """

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        if len(source) > MAX_SOURCE:
            raise BundleError(
                f"the model's chat template has {len(source)} characters, more than the allowed {MAX_SOURCE}"
                f"; {ADVICE}"
            )
        if found := INNER_ATTRIBUTE.search(source):
            raise BundleError(
                f"the model's chat template reads the attribute {found[1]}, which no template needs; {ADVICE}"
            )
        self.source, self.tokenizer = source, tokenizer
        self._says_answers = GENERATION.search(source) is not None
        self._encoder = TemplateEncoder(tokenizer, source)
        names = {role: tokenizer.special_name(role) for role in NAMES}
        self._variables = {role: name for role, name in names.items() if name is not None}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ChatTemplate | None:
        """The template in a tokenizer's config, the one named `default` of several; None without one."""
        found = tokenizer.config.get("chat_template")
        if isinstance(found, list):
            if not all(isinstance(one, dict) and isinstance(one.get("template"), str) for one in found):
                raise BundleError(f"the chat templates are a list without a name and text of each; {ADVICE}")
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

    def encode_answers(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """The ids of a whole conversation, and whether each is of an answer; its end of turn is.

        An answer is what the template says it is with `generation`, or what rendering the messages up to it
        adds. Errors: BundleError for a template that does not show where answers are.
        """
        if self._says_answers:
            return self._encoder.encode_marked(self._render(messages, False, around=(FIRST, LAST)))
        whole, marked, end = self._render(messages, False), "", 0
        for at in [at for at, message in enumerate(messages) if message["role"] == "assistant"]:
            start, stop = self._answer(messages, at, whole)
            marked += f"{whole[end:start]}{FIRST}{whole[start:stop]}{LAST}"
            end = stop
        return self._encoder.encode_marked(marked + whole[end:])

    def _answer(self, messages: Sequence[Message], at: int, whole: str) -> tuple[int, int]:
        """Where the answer that is message `at` starts and stops in the rendered conversation."""
        before = self._render(messages[:at], False) if at else ""
        prompt = self._render(messages[: max(1, at)], True)
        if not at:  # the end of a prompt alone, behind what comes before every conversation
            prompt = prompt.removeprefix(self._render(messages[:1], False))
            before = whole.partition(prompt)[0] if prompt else ""
            prompt = before + prompt
        start = len(prompt)
        if not whole.startswith(prompt):  # it begins thoughts that the answer does not have
            pairs = enumerate(zip(prompt, whole, strict=False))
            start = next((i for i, (one, other) in pairs if one != other), 0)
        after = whole if at + 1 == len(messages) else self._render(messages[: at + 1], False)
        stop = len(after)
        if not whole.startswith(after):  # its own thoughts are left out
            found = self._encoder.own.search(whole, start)
            stop = found.end() if found else 0
        if not whole.startswith(before) or not len(before) <= start < stop:
            raise BundleError(
                "the model's chat template renders answers otherwise than it prompts for them, so their "
                f"tokens are not known; {ADVICE}, or give the records as prompt and completion"
            )
        behind = self._encoder.own_at_end.search(whole, start, stop)
        return start, stop if behind is None else behind.end(1)

    def _render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        *,
        around: tuple[str, str] = ("", ""),
    ) -> str:
        plain, encoder = check_messages(messages), self._encoder
        try:
            marked = [encoder.mark(message, by_model=message["role"] == "assistant") for message in plain]
        except RecursionError:
            raise UsageError("a message has lists nested too deeply; give texts") from None
        text = self._rendered(marked, add_generation_prompt, around)
        if marked == plain:
            return text
        if not ESCAPED.search(json.dumps(plain, ensure_ascii=False)):
            text = ESCAPED.sub("", text)
        # A template may take the marks away: with neutral texts it writes as many names of its own.
        neutral = [NAMED.sub(lambda found: "x" * len(found[0]), json.dumps(m)) for m in marked]
        other = self._rendered([json.loads(message) for message in neutral], add_generation_prompt, around)
        if more := encoder.own_names(text) - encoder.own_names(other):
            name = next(iter(more))
            raise UsageError(f"the template makes the special token {name} of a message's text; remove it")
        return text

    def _rendered(self, messages: Sequence[Message], prompts: bool, around: tuple[str, str]) -> str:
        variables: dict[str, Any] = {"tools": None, "documents": None} | self._variables
        variables |= {"messages": messages, "add_generation_prompt": prompts}
        answer = WORKER.render(self.source, variables, around=around)
        if "text" in answer:
            text = str(answer["text"])
            if HALF.search(text):
                raise BundleError(f"the chat template writes half of a character (a surrogate); {ADVICE}")
            return text
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
    reasoning = next((kept[name] for name in REASONING if name in kept), None)
    if reasoning is not None:
        kept = {"thinking": reasoning} | kept | {"reasoning_content": reasoning}
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
        self.own = re.compile(f"(?<!{OPEN})(?:{_any_of(special)})")  # the template's
        self.own_at_end = re.compile(f"(?<!{OPEN})({_any_of(special)})\\s*\\Z")
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

    def own_names(self, rendered: str) -> Counter[str]:
        """The names of special tokens in a rendered text that are not a user's, and how often they occur."""
        own = self._marked.split(rendered)[::2]
        return Counter(name for part in own if part for name in self._pattern.findall(part))

    def encode(self, rendered: str) -> list[int]:
        """The ids of a rendered text: the template's names become special tokens, users' stay text.

        Errors: UsageError where the tokenizer makes a special token of plain text.
        """
        with library_errors("the tokenizer"):
            text = self._with_stand_ins(rendered)
            found = self._renamed[0].encode_batch_fast([text], add_special_tokens=False)[0].ids
        return self._checked(found)

    def encode_marked(self, rendered: str) -> tuple[list[int], list[bool]]:
        """The ids of a rendered text with answers between marks, and whether each is of an answer.

        A token across the start or the stop of an answer is part of it, as in transformers.
        """
        parts = re.split(f"[{FIRST}{LAST}]", self._with_stand_ins(rendered))  # outside, answer, outside, ...
        ends = [0, *accumulate(map(len, parts))]
        with library_errors("the tokenizer"):
            found = self._renamed[0].encode("".join(parts), add_special_tokens=False)
        answers = list(zip(ends[1::2], ends[2::2], strict=False))
        starts = [start for start, _ in answers]
        flags = []
        for first, last in found.offsets:
            at = bisect_left(starts, last) - 1  # the last answer that starts before the token ends
            flags.append(at >= 0 and first < answers[at][1])
        return self._checked(found.ids), flags

    def _with_stand_ins(self, rendered: str) -> str:
        """A rendered text without marks, and with the names of special tokens that no text has."""
        parts = self._marked.split(rendered)  # template, a name in a user's text or None, template, ...
        texts = [
            part if at % 2 else self._pattern.sub(lambda m: _stand_in(self._ids[m[0]]), part)
            for at, part in enumerate(parts)
            if part
        ]
        return "".join(texts)

    def _checked(self, found: list[int]) -> list[int]:
        """Our ids for those of the renamed tokenizer; UsageError if one was made of plain text."""
        ids = self._renamed[1]
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
