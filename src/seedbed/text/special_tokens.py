"""The special tokens beside a tokenizer's legacy files, as transformers reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from seedbed.base.errors import BundleError
from seedbed.base.json_file import has_file, read_object

NAMES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
LISTS = ("additional_special_tokens", "extra_special_tokens")
# What stays in tokenizer_config.json when the tokenizer is saved as a tokenizer.json, which says the rest.
KEPT = (*NAMES, "model_max_length", "padding_side", "clean_up_tokenization_spaces", "chat_template")
MAX_ADDED = 1 << 16


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens with a role, by that role; those without; and those whose id is in a file."""

    named: dict[str, AddedToken]
    more: tuple[AddedToken, ...]
    placed: dict[int, AddedToken]

    def name(self, role: str) -> str | None:
        """The text of the token with a role such as `eos_token`."""
        return self.named[role].content if role in self.named else None

    def add_to(self, core: tokenizers.Tokenizer) -> None:
        """Add the tokens; a BundleError where one does not get the id that its file gives it."""
        roles = {token.content for token in self.named.values()}
        placed = sorted(self.placed.items())
        for _, token in placed:
            token.special |= token.content in roles
        core.add_tokens([token for _, token in placed])
        # The flags of the last addition count.
        known = {token.content for token in self.placed.values()}
        others = [t for t in (*self.named.values(), *self.more) if t.content not in known]
        core.add_tokens(list({t.content: t for t in others}.values()))
        for token_id, token in placed:
            if (got := core.token_to_id(token.content)) != token_id:
                raise BundleError(
                    f"its added token {token.content[:40]!r} has the id {token_id}, but its place is {got}; "
                    "the files belong to different tokenizers: take all from one"
                )
        ids = list(core.get_vocab(with_added_tokens=True).values())
        if len(set(ids)) != len(ids):
            raise BundleError("two of its tokens have one id; take all files from one tokenizer")


def read_special_tokens(
    folder: Path, config: Mapping[str, Any], defaults: Mapping[str, str], vocabulary: frozenset[str]
) -> SpecialTokens:
    """What tokenizer_config.json, special_tokens_map.json and added_tokens.json say, else the defaults.

    A default counts only where the vocabulary has it. Errors: BundleError for what is not a token.
    """
    values = {name: text for name, text in defaults.items() if text in vocabulary}
    values |= {key: config[key] for key in (*NAMES, *LISTS) if key in config}
    is_listed = "added_tokens_decoder" in config
    if not is_listed and has_file(file := folder / "special_tokens_map.json"):
        values |= {k: v for k, v in read_object(file).items() if k in (*NAMES, *LISTS)}
    named = {k: _token(v, mask=k == "mask_token") for k, v in values.items() if k in NAMES and v is not None}
    more = tuple(_token(v) for key in LISTS for v in _list(values.get(key)))
    placed: dict[int, AddedToken] = {}
    if is_listed:
        for key, value in _items(config["added_tokens_decoder"], "added_tokens_decoder"):
            placed[_id(key)] = _token(value, special=False)
    elif has_file(file := folder / "added_tokens.json"):
        special = {token.content for token in (*named.values(), *more)}
        for text, key in _items(read_object(file), file.name):
            flags = {"content": text, "normalized": text not in special}
            placed[_id(key)] = _token(flags, special=text in special)
    return SpecialTokens(named, more, placed)


def _token(value: object, *, special: bool = True, mask: bool = False) -> AddedToken:
    """A token from its text, or from an object with its text and flags."""
    entry: dict[str, Any] = value if isinstance(value, dict) else {"content": value}
    content = entry.get("content")
    flags = {name: entry[name] for name in ("single_word", "lstrip", "rstrip", "normalized") if name in entry}
    if not isinstance(content, str) or not content or not all(isinstance(f, bool) for f in flags.values()):
        raise BundleError(f"its files have {str(value)[:60]!r} as a token, which is not one; give a text")
    if not isinstance(value, dict):
        flags = {"normalized": False, "lstrip": mask}
    return AddedToken(content, special=bool(entry.get("special")) or special, **flags)


def _id(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise BundleError(f"its files have {str(value)[:40]!r} as the id of a token; give a count from 0")
    return value


def _items(value: object, name: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or len(value) > MAX_ADDED:
        raise BundleError(f"its {name} is not an object of at most {MAX_ADDED} tokens; download it again")
    return list(value.items())


def _list(value: object) -> list[Any]:
    values = list(value.values()) if isinstance(value, dict) else [] if value is None else value
    if not isinstance(values, list) or len(values) > MAX_ADDED:
        raise BundleError(
            f"its additional special tokens are not a list of at most {MAX_ADDED}; download it again"
        )
    return values
