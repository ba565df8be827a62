"""Vocabularies in lists: vocab.json with merges.txt (GPT, GPT-2, RoBERTa, BART), vocab.txt (BERT)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from seedbed.base.errors import BundleError
from seedbed.base.json_file import read_object
from seedbed.text.library import read_text

WORD_END = "</w>"
ENDINGS = r"'s|'t|'re|'ve|'m|'ll|'d"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = rf"(?i:{ENDINGS})|{WORDS}|\p{{N}}|{REST}"  # Qwen2 and 3 split at these: each digit is a token
MAX_WORD_CHARACTERS = 100  # a longer word is unknown to BERT's WordPiece
Merges = list[tuple[str, str]]


def read_vocabulary(file: Path) -> dict[str, int]:
    """Tokens with their ids from a JSON object; a BundleError for an invalid or repeated id."""
    vocabulary = read_object(file)
    ids = list(vocabulary.values())
    if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise BundleError(f"{file} has a token whose id is not a count from 0; download it again")
    if len(set(ids)) != len(ids):
        raise BundleError(f"{file} gives one id to two tokens; download it again")
    if not ids or max(ids) >= 2 * len(ids) + 1024:
        raise BundleError(
            f"{file} has {len(ids)} tokens with ids up to {max(ids, default=0)}; download it again"
        )
    return vocabulary


def read_lines(file: Path) -> dict[str, int]:
    """The tokens of a vocab.txt, one per line, with their line number from 0; the last of equal lines."""
    return {line: i for i, line in enumerate(read_text(file).removesuffix("\n").split("\n"))}


def read_merges(file: Path) -> Merges:
    """The pairs of a merges.txt, in order, without the line of its version."""
    pairs = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, space, right = line.partition(" ")
        if not (left and space and right) or " " in right:
            raise BundleError(f"{file} has no pair of tokens in line {number}; download it again")
        pairs.append((left, right))
    return pairs


def byte_core(
    vocabulary: dict[str, int], merges: Merges, pattern: str | None = None, *, prefix: bool = False
) -> tokenizers.Tokenizer:
    """Byte-level BPE over GPT-2's words (Radford et al. 2019, section 2.2), or over a pattern's matches."""
    missing = 256 - sum(symbol in vocabulary for symbol in pre_tokenizers.ByteLevel.alphabet())
    if missing:
        raise BundleError(
            f"its vocabulary lacks {missing} of the 256 bytes, so texts would lose them; use a complete one"
        )
    if pattern is not None:
        return cut_core(vocabulary, merges, (pattern,), composed=True)
    core = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    core.decoder = decoders.ByteLevel()
    return core


def cut_core(
    vocabulary: dict[str, int],
    merges: Merges,
    patterns: Sequence[str],
    *,
    composed: bool,
    whole_words: bool = False,
) -> tokenizers.Tokenizer:
    """Byte-level BPE split by patterns, one after the other; `composed` normalizes texts to NFC first.

    `whole_words` looks up a whole word before it merges, as LLaMA 3 does.
    """
    core = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=whole_words))
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
    if composed:
        core.normalizer = normalizers.NFC()
    core.decoder = decoders.ByteLevel()
    return core


def word_end_core(vocabulary: dict[str, int], merges: Merges, unknown: str | None) -> tokenizers.Tokenizer:
    """BPE over lower-cased words with an end mark (Radford et al. 2018, section 4.1)."""
    bpe = models.BPE(vocabulary, merges, unk_token=unknown, end_of_word_suffix=WORD_END)
    core = tokenizers.Tokenizer(bpe)
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.BPEDecoder(suffix=WORD_END)
    return core


def word_piece_core(
    vocabulary: dict[str, int], config: Mapping[str, Any], unknown: str | None
) -> tokenizers.Tokenizer:
    """WordPiece over BERT's words (Devlin et al. 2019, section 3).

    Without `do_lower_case`, a vocabulary without capital letters lower-cases texts.
    """
    if unknown not in vocabulary:
        raise BundleError("its vocab.txt has no token for unknown text, such as [UNK]; download it again")
    cased = any(re.search("[A-Z]", text) for text in vocabulary if not text.startswith("["))
    lower, chinese = _flag(config, "do_lower_case"), _flag(config, "tokenize_chinese_chars")
    model = models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=MAX_WORD_CHARACTERS)
    core = tokenizers.Tokenizer(model)
    core.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=chinese is not False,
        strip_accents=_flag(config, "strip_accents"),
        lowercase=not cased if lower is None else lower,
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    return core


def _flag(config: Mapping[str, Any], key: str) -> bool | None:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise BundleError(f"its tokenizer_config.json has {str(value)[:40]!r} as {key}; give true or false")
    return value


def surround(
    core: tokenizers.Tokenizer,
    before: str | None,
    after: str | None,
    *,
    between: str | None = None,
    segments: bool = False,
) -> None:
    """Put special tokens around each text; with `segments` a second text has type 1 and none before it.

    RoBERTa has `between` before the second of two texts.
    """
    ids = {text: core.token_to_id(text) for text in (before, after) if text is not None}
    if missing := [text for text, i in ids.items() if i is None]:
        raise BundleError(
            f"its vocabulary lacks the special token {missing[0][:40]!r} around a text; take all files from "
            "one tokenizer"
        )
    second_before = None if segments else between or before
    first = [f"{item}:0" for item in (before, "$A", after) if item]
    second = [f"{item}:{int(segments)}" for item in (second_before, "$B", after) if item]
    core.post_processor = processors.TemplateProcessing(
        single=first, pair=[*first, *second], special_tokens=list(ids.items())
    )
