"""Answers as text: long ones shortened, tags behind their words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from seedbed.data.fields import WORD

WORDS = ("tokens", "words", "text", "input")  # the usual names of the words that tags belong to
LETTERS = 600  # of a text that is shown


def with_words(fields: dict[str, Any], tags: list[str]) -> tuple[dict[str, Any], Any]:
    """The fields of a record and its predicted tags, with each tag behind its word."""
    parts = {name: WORD.findall(text) if isinstance(text, str) else text for name, text in fields.items()}
    lists = {
        name: list(map(str, part))
        for name, part in parts.items()
        if isinstance(part, list) and len(part) == len(tags)
    }
    own = next((name for name in lists if name.strip().lower() in WORDS), None)
    if own is None:
        return fields, tags
    tagged = {name: _tagged(lists[own], part) for name, part in lists.items() if name != own}
    rest = {name: text for name, text in fields.items() if name not in lists}
    return rest | tagged, _tagged(lists[own], tags)


def _tagged(words: Sequence[str], tags: Sequence[str]) -> str:
    """The words with their tags, without those that are outside of names."""
    pairs = zip(words, tags, strict=True)
    return " ".join(word if tag == "O" else f"{word}/{tag}" for word, tag in pairs)


def short(value: Any) -> str:
    """A value as text, a long one cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} ..."
