"""What SentencePiece does and the `tokenizers` library does not, for a tokenizer.json with the rest."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers

from seedbed.text.sentencepiece_model import check_charsmap
from seedbed.text.sentencepiece_normalizer import SentencePieceNormalizer
from seedbed.text.unigram_paths import UnigramPaths

# In tokenizer_config.json: the settings of the normalizer, for a tokenizer of a SentencePiece model.
EXACT_KEY = "seedbed_sentencepiece"


@dataclass(frozen=True)
class Exact:
    """The tokenizer of normalized texts, and what it lacks; `published` is the library's normalizer."""

    core: tokenizers.Tokenizer
    normalizer: SentencePieceNormalizer
    paths: UnigramPaths | None
    published: Any


def exact_sentencepiece(core: tokenizers.Tokenizer, settings: Any) -> Exact:
    """Take a tokenizer apart, so that its texts are split exactly as SentencePiece splits them.

    `settings` are those of `EXACT_KEY`. Errors: ValueError for others, and for a damaged character map.
    """
    types = {name: type(value) for name, value in settings.items()} if isinstance(settings, dict) else {}
    if types != {"dummy_prefix": bool, "remove_extra_spaces": bool, "symbols": list}:
        raise ValueError(f"its {EXACT_KEY} needs dummy_prefix, remove_extra_spaces and a list of symbols")
    if not all(isinstance(symbol, str) and symbol for symbol in settings["symbols"]):
        raise ValueError(f"its {EXACT_KEY} has a symbol that is not a text")
    tree = json.loads(core.to_str())
    parts = (tree["normalizer"] or {}).get("normalizers", [])
    maps = [part["precompiled_charsmap"] for part in parts if part["type"] == "Precompiled"]
    charsmap = base64.b64decode(maps[0]) if maps else b""
    if charsmap:
        check_charsmap(charsmap)
    added, symbols = core.get_added_tokens_decoder(), {*settings["symbols"]}
    kept = {
        token.content: i
        for i, token in added.items()
        if not (token.special or token.normalized or token.content in symbols)
    }
    exact = tree | {"normalizer": None, "added_tokens": [_matched(t, symbols) for t in tree["added_tokens"]]}
    hidden = frozenset(i for i, token in added.items() if token.special)
    model = tree["model"]
    return Exact(
        tokenizers.Tokenizer.from_str(json.dumps(exact)),
        SentencePieceNormalizer(charsmap, kept=kept, **settings),
        UnigramPaths(model, hidden=hidden, kept=kept) if model["type"] == "Unigram" else None,
        tree["normalizer"],
    )


def _matched(token: Mapping[str, Any], symbols: set[str]) -> dict[str, Any]:
    """An added token that is matched in one pass with the other symbols."""
    return {**token, "normalized": token["normalized"] or token["content"] in symbols}
