"""Tokenizers from texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from seedbed.base.errors import ConfigError
from seedbed.text.tokenizer import END_OF_TEXT, Tokenizer, blocks, byte_symbols

KINDS = ("bpe", "characters", "words", "bytes")


def train_tokenizer(
    texts: Iterable[str],
    kind: str,
    *,
    vocab_size: int = 8192,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
) -> Tokenizer:
    """Make a tokenizer with at most `vocab_size` tokens: 256 bytes, the most frequent pieces, special ones.

    `bpe` merges pairs of neighbours, most frequent first (Sennrich et al. 2016); `words` takes words with
    the space before them; `characters` takes those beyond ASCII (an ASCII one is its byte); `bytes` takes
    no pieces. The first special token ends documents.
    """
    if kind not in KINDS:
        raise ConfigError(f"tokenizer.kind={kind!r} is not known; allowed: {', '.join(KINDS)}")
    num_pieces = vocab_size - 256 - len(special_tokens)
    if num_pieces < 0:
        raise ConfigError(
            f"tokenizer.vocab_size={vocab_size} cannot hold 256 bytes and {len(special_tokens)} special "
            f"tokens; choose at least {256 + len(special_tokens)}"
        )
    cut = (block for text in texts for block in blocks(text))
    if kind == "bpe":
        core = _train_pairs(cut, num_pieces)
    else:
        pieces = {"characters": _frequent_characters, "words": _frequent_words}
        symbols = byte_symbols()
        found = pieces[kind](cut, num_pieces) if kind in pieces else []
        vocabulary = {piece: i for i, piece in enumerate([*symbols, *found])}
        core = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
        core.pre_tokenizer = _pre_tokenizer(kind)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special_tokens])
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "seedbed_kind": kind}
    config |= {"clean_up_tokenization_spaces": False}
    if special_tokens:
        config |= {"eos_token": special_tokens[0]}
    return Tokenizer(core, config)


def _pre_tokenizer(kind: str) -> pre_tokenizers.PreTokenizer:
    """Where a text is cut before the vocabulary is asked: at words, around non-ASCII characters, nowhere."""
    if kind == "characters":
        # ASCII runs fall back to their bytes as a whole: three times the speed of one piece a character.
        cut = pre_tokenizers.Split(Regex(r"[^\x00-\x7F]|[\x00-\x7F]{1,64}"), "isolated")
        return pre_tokenizers.Sequence([cut, _pre_tokenizer("bytes")])
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "bytes")


def _train_pairs(texts: Iterator[str], num_pieces: int) -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = _pre_tokenizer("bpe")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + num_pieces, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(texts, trainer)
    return core


def _frequent_characters(texts: Iterator[str], num_pieces: int) -> list[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        if not text.isascii():
            counts.update(re.sub(r"[\x00-\x7F]+", "", text))
    symbols = byte_symbols()
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[:num_pieces]
    return ["".join(symbols[byte] for byte in c.encode()) for c in frequent]


def _frequent_words(texts: Iterator[str], num_pieces: int) -> list[str]:
    counter = tokenizers.Tokenizer(models.WordLevel(unk_token=""))
    counter.pre_tokenizer = _pre_tokenizer("words")
    # Single bytes are tokens already and may be among the most frequent: ask for as many more.
    trainer = trainers.WordLevelTrainer(vocab_size=num_pieces + 256, show_progress=False)
    counter.train_from_iterator(texts, trainer)
    vocabulary = counter.get_vocab()
    ranked = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    return [piece for piece in ranked if len(piece) > 1][:num_pieces]
