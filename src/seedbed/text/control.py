"""A template's control tokens beside users' texts, which never become one.

What a user wrote keeps its letters and gets marks, noncharacters of Unicode that no text may hold (section
23.7): around a control string, and at an end that could grow into one. After the template is rendered, a
control string without marks is the template's own. The whole is encoded at once, so that pieces join across
the seams as if nothing had been marked.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any

import tokenizers

from seedbed.base.errors import BundleError, UsageError
from seedbed.text.library import library_errors
from seedbed.text.tokenizer import Tokenizer, refuse_surrogates

OPEN, CLOSE, SEAM = "\ufdd0", "\ufdd1", "\ufdd2"  # around a user's control string; where a user's text ends
BEGIN, END = "\ufdd3", "\ufdd4"  # around the id of a control token
RESERVED = re.compile(f"[{OPEN}-{END}]")


class ControlEncoder:
    """Marks users' texts for a template, and encodes what the template makes of them.

    Control tokens are the special ones, and the added ones that stand in the template's source (`<think>`),
    white space excepted, as in transformers' `sanitize_control_tokens`. The latter are text in a user's
    message and tokens in the model's own, where they came from and where templates look for them.
    """

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self._tokenizer = tokenizer
        self._control = {
            token.content: i
            for i, token in tokenizer.added_tokens.items()
            if token.content and (token.special or (token.content in source and not token.content.isspace()))
        }
        contents = sorted(self._control, key=len, reverse=True)  # the longest first, as the library matches
        pattern = _any_of(contents)
        self._pattern = re.compile(pattern)
        special = [content for content in contents if self._control[content] in tokenizer.special_ids]
        self._special = re.compile(_any_of(special))
        self._marked = re.compile(f"{OPEN}({pattern}){CLOSE}|[{OPEN}{CLOSE}{SEAM}]")
        self._heads = {content[:n] for content in contents for n in range(1, len(content))}
        self._tails = {content[n:] for content in contents for n in range(1, len(content))}
        self._longest = max(map(len, contents), default=1)

    def mark(self, value: Any, *, by_model: bool = False) -> Any:
        """A copy of a JSON value with every text in it marked; UsageError for a text with marks in it."""
        if isinstance(value, str):
            return self._mark(value, self._special if by_model else self._pattern)
        if isinstance(value, dict):
            return {self.mark(key): self.mark(inner, by_model=by_model) for key, inner in value.items()}
        return [self.mark(inner, by_model=by_model) for inner in value] if isinstance(value, list) else value

    def _mark(self, text: str, pattern: re.Pattern[str]) -> str:
        refuse_surrogates([text])
        if found := RESERVED.search(text):
            raise UsageError(
                f"the text has U+{ord(found[0]):04X} at character {found.start()}, a noncharacter that "
                "Unicode keeps for programs' own use; remove it"
            )
        sizes = range(1, min(self._longest, len(text) + 1))
        before = SEAM if any(text[:n] in self._tails for n in sizes) else ""
        after = SEAM if any(text[-n:] in self._heads for n in sizes) else ""
        return before + pattern.sub(f"{OPEN}\\g<0>{CLOSE}", text) + after

    def unmark(self, rendered: str) -> str:
        """The rendered text for people: without marks."""
        return RESERVED.sub("", rendered)

    def encode(self, rendered: str) -> list[int]:
        """The ids of a rendered text: the template's control strings are control tokens, users' are text.

        Errors: UsageError where the tokenizer makes a control token of plain text.
        """
        core, ids = self._renamed
        parts = self._marked.split(rendered)  # template, a user's control string or None, template, ...
        texts = [
            part if at % 2 else self._pattern.sub(lambda m: _stand_in(self._control[m[0]]), part)
            for at, part in enumerate(parts)
            if part
        ]
        with library_errors("the tokenizer"):
            found = core.encode_batch_fast(["".join(texts)], add_special_tokens=False)[0].ids
        plain = {*self._control.values()} - {self._tokenizer.unk_id}
        forged = next((i for i in found if i not in ids and i in plain), None)
        if forged is not None:
            raise UsageError(
                f"this tokenizer makes the control token {self._tokenizer.token(forged)} of plain text; take "
                "it out of the message"
            )
        return [ids.get(i, i) for i in found]

    @cached_property
    def _renamed(self) -> tuple[tokenizers.Tokenizer, dict[int, int]]:
        """The tokenizer with names for its control tokens that no text holds; its added ids to the true."""
        tree = self._tokenizer.definition()
        names = {token["id"]: token["content"] for token in tree["added_tokens"]}
        names |= {i: _stand_in(i) for i in self._control.values()}
        tree["added_tokens"] = [
            token | {"content": names[token["id"]]}
            | ({"normalized": False} if token["id"] in self._control.values() else {})
            for token in tree["added_tokens"]
        ]  # fmt: skip
        tree["post_processor"] = None
        with library_errors("the tokenizer"):
            core = tokenizers.Tokenizer.from_str(json.dumps(tree))
        ids = {found: i for i, name in names.items() if (found := core.token_to_id(name)) is not None}
        pieces = core.get_vocab(with_added_tokens=False)
        if any(_stand_in(true) == names[true] and i in pieces.values() for i, true in ids.items()):
            raise BundleError(
                "the tokenizer's vocabulary has gaps, in which control tokens cannot be told from text; use "
                "`generate`, which completes text"
            )
        return core, ids


def _any_of(contents: list[str]) -> str:
    return "|".join(map(re.escape, contents)) or "(?!)"


def _stand_in(token_id: int) -> str:
    return f"{BEGIN}{token_id}{END}"
