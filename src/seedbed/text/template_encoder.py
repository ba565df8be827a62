"""Encodes a rendered chat template, whose special tokens never come from users' texts.

A user's text keeps its letters and gets marks, noncharacters of Unicode that no text may contain (section
23.7): around the name of a special token, and at an end that could grow into one. After the template is
rendered, a name without marks is the template's own. The whole is encoded at once, so tokens merge across
the marks as if there were none.
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

OPEN, CLOSE, SEAM = "\ufdd0", "\ufdd1", "\ufdd2"  # around a name in a user's text; at an end of that text
BEGIN, END = "\ufdd3", "\ufdd4"  # around the id of a special token
RESERVED = re.compile(f"[{OPEN}-{END}]")


class TemplateEncoder:
    """Marks users' texts for a template, and encodes the rendered text.

    Special tokens are here also the added ones that occur in the template's source (`<think>`), white space
    excepted, as in transformers' `sanitize_control_tokens`. Those are text in a user's message and tokens in
    the model's own, which produced them and where templates look for them.
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
        """The rendered text without marks, for display."""
        return RESERVED.sub("", rendered)

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
