"""Tokenizers trained from texts, the same in every run.

The kinds `bpe`, `characters`, `words` and `bytes` are byte-level BPE (Radford et al. 2019, section 2.2): they
differ in the tokens beyond single bytes and in where a text is split, and decode every text exactly.
`wordpiece`, that of BERT's uncased models, drops case and accents; `unigram`, T5's, makes all white space
single spaces. In both, text outside the vocabulary is unknown.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from seedbed.base.errors import ConfigError
from seedbed.base.signals import in_worker
from seedbed.text.sentencepiece_model import CONTROL, METASPACE, UNKNOWN, Entry, SentencePieceModel
from seedbed.text.sentencepiece_tokenizer import hidden_pattern, model_core
from seedbed.text.special_form import SpecialForm, form_of_kind
from seedbed.text.tokenizer import Tokenizer, blocks, byte_symbols
from seedbed.text.unigram import unigram_entries
from seedbed.text.vocabulary_files import MAX_WORD_CHARACTERS, word_piece_core

BYTE_KINDS = ("bpe", "characters", "words", "bytes")
KINDS = ("bpe", "wordpiece", "unigram", "characters", "words", "bytes")
JOINED = ("bpe", "words", "unigram")  # their tokens include the space before a word, so a mask does, too
LEAST_ENTRIES = 4  # of WordPiece and unigram: half of them are letters
MAX_WORDS = 1 << 20  # counted at once; beyond, the rarest are forgotten
# Longer words are split to train merges, whose time is quadratic in the longest word, and are no entries.
MAX_WORD_BYTES = 256
# What SentencePiece's nmt_nfkc removes, and what it makes a space of once a text is in NFKC.
REMOVED = r"[\x01-\x08\x0B\x0E-\x1F\x7F\u008F\u009F]"
SPACES = rf"[\t\n\f\r \u061C\u1680\u200B\u200C\u200E\u200F\u2028\u2029{METASPACE}\uFEFF\uFFFD]+"
# An entry of a unigram model has letters, digits or neither, never two of these, as in SentencePiece.
RUNS = rf"{METASPACE}?(?:[\p{{L}}\p{{M}}]+|\p{{N}}+|[^\p{{L}}\p{{M}}\p{{N}}{METASPACE}]+)|{METASPACE}"


def train_tokenizer(
    texts: Iterable[str],
    kind: str | None = None,
    *,
    vocab_size: int = 8192,
    special: SpecialForm | None = None,
) -> Tokenizer:
    """Train a tokenizer with at most `vocab_size` tokens, the special tokens of `special` included.

    The kind defaults to the form's, and the form to the kind's. `bpe` merges the most frequent pairs first
    (Sennrich et al. 2016); `wordpiece` does so with the letters of a word; `unigram` keeps the substrings
    that maximize the likelihood of the texts (Kudo 2018); `words` has words with the space before them;
    `characters` those beyond ASCII (an ASCII one is its byte); `bytes` nothing more. Errors: ConfigError for
    an unknown kind, one that needs a token which the form lacks, and a vocabulary that is too small.
    """
    form = special or form_of_kind(kind)
    kind = kind or form.kind
    if kind not in KINDS:
        raise ConfigError(f"tokenizer.kind={kind!r} is not known; allowed: {', '.join(KINDS)}")
    if kind not in BYTE_KINDS and form.roles.get("unk") not in form.first:
        raise ConfigError(
            f"tokenizer.kind={kind!r} needs a token for unknown text, which this family's tokenizers lack; "
            f"allowed: {', '.join(BYTE_KINDS)}"
        )
    own, needed = ("256 bytes", 256) if kind in BYTE_KINDS else (f"{LEAST_ENTRIES} entries", LEAST_ENTRIES)
    if vocab_size >= 2**31:
        raise ConfigError(f"tokenizer.vocab_size={vocab_size} is not allowed: give a number below 2^31")
    num_entries = vocab_size - form.num_tokens
    if num_entries < needed:
        raise ConfigError(
            f"tokenizer.vocab_size={vocab_size} cannot hold {own} and {form.num_tokens} special "
            f"tokens; choose at least {needed + form.num_tokens}"
        )
    split = (block for text in texts for block in blocks(text))
    make = {"wordpiece": _word_piece_core, "unigram": _unigram_core}.get(kind, partial(_byte_core, kind))
    core = make(split, num_entries, form)
    form.add_to(core, joins=kind in JOINED)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "seedbed_kind": kind}
    return Tokenizer(core, config | {"clean_up_tokenization_spaces": False} | form.config())


def _byte_core(kind: str, texts: Iterator[str], num_entries: int, form: SpecialForm) -> tokenizers.Tokenizer:
    merges: list[tuple[str, str]] = []
    entries = byte_symbols()
    if kind == "bpe":
        entries, merges = _pairs(texts, num_entries - 256)
    elif kind != "bytes":
        find = _frequent_characters if kind == "characters" else _frequent_words
        entries += find(texts, num_entries - 256)
    vocabulary = {entry: i for i, entry in enumerate([*form.first, *entries])}
    core = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=kind != "bpe"))
    core.pre_tokenizer = _pre_tokenizer(kind)
    if form.first and kind in ("characters", "bytes"):
        # A run is looked up as a whole, so none may be the name of a special token.
        names = [Entry(name, type=CONTROL) for name in form.first]
        apart = pre_tokenizers.Split(Regex(hidden_pattern(names)), "merged_with_previous")
        core.pre_tokenizer = pre_tokenizers.Sequence([apart, core.pre_tokenizer])
    core.decoder = decoders.ByteLevel()
    return core


def _train(core: tokenizers.Tokenizer, texts: Iterable[str], trainer: trainers.Trainer) -> None:
    """Train a vocabulary with the library, which a signal may leave."""
    in_worker(partial(core.train_from_iterator, trainer=trainer), texts)


def _pre_tokenizer(kind: str) -> pre_tokenizers.PreTokenizer:
    """Where a text is split before the vocabulary is used: at words, around non-ASCII characters, nowhere."""
    if kind == "characters":
        # ASCII runs fall back to their bytes as a whole: three times the speed of one token per character.
        split = pre_tokenizers.Split(Regex(r"[^\x00-\x7F]|[\x00-\x7F]{1,64}"), "isolated")
        return pre_tokenizers.Sequence([split, _pre_tokenizer("bytes")])
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "bytes")


def _pairs(texts: Iterator[str], num_merges: int) -> tuple[list[str], list[tuple[str, str]]]:
    core = tokenizers.Tokenizer(models.BPE())
    # Of the symbols of bytes; shorter words stay as they are.
    bounded = pre_tokenizers.FixedLength(MAX_WORD_BYTES)
    core.pre_tokenizer = pre_tokenizers.Sequence([_pre_tokenizer("bpe"), bounded])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + num_merges, initial_alphabet=alphabet, show_progress=False)
    _train(core, texts, trainer)
    model = json.loads(core.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), [(a, b) for a, b in model["merges"]]


def _frequent_characters(texts: Iterator[str], num_entries: int) -> list[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        if not text.isascii():
            counts.update(re.sub(r"[\x00-\x7F]+", "", text))
    symbols = byte_symbols()
    return ["".join(symbols[byte] for byte in c.encode()) for c in _by_frequency(counts)[:num_entries]]


def _frequent_words(texts: Iterator[str], num_entries: int) -> list[str]:
    counter = tokenizers.Tokenizer(models.WordLevel(unk_token=""))
    counter.pre_tokenizer = _pre_tokenizer("words")
    # Single bytes are tokens already and may be among the most frequent: request as many more.
    trainer = trainers.WordLevelTrainer(vocab_size=num_entries + 256, show_progress=False)
    _train(counter, texts, trainer)
    vocabulary = counter.get_vocab()
    words = (word for word in vocabulary if 1 < len(word) <= MAX_WORD_BYTES)
    return sorted(words, key=vocabulary.__getitem__)[:num_entries]


def _word_piece_core(texts: Iterator[str], num_entries: int, form: SpecialForm) -> tokenizers.Tokenizer:
    """WordPiece over BERT's uncased words (Devlin et al. 2019, section 3), merged by the library's trainer.

    It orders letters and equal pairs as a hash map does, unless it gets all letters as special tokens.
    """
    unknown, lower = form.roles["unk"], {"do_lower_case": True}
    core = word_piece_core({name: i for i, name in enumerate(form.first)}, lower, unknown)

    def words_of(text: str) -> list[str]:
        return [word for word, _ in core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text))]

    counts = _count_words(words_of(text) for text in texts)
    letters: list[str] = []
    for letter in _by_frequency(counts):
        is_word = len(words_of(f"a{letter}a")) > 1  # a comma or a Chinese character
        both = [letter] if is_word else [letter, f"##{letter}"]
        if len(letters) + len(both) > num_entries // 2:
            break
        letters += both
    kept = frozenset(letters)
    words = sorted(w for w in counts if len(w) <= MAX_WORD_CHARACTERS and kept.issuperset(w))
    trained = tokenizers.Tokenizer(models.WordPiece({}, unk_token=unknown))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=len(form.first) + num_entries,
        min_frequency=2,
        special_tokens=[*form.first, *sorted(letters, key=lambda letter: (len(letter), letter))],
        show_progress=False,
    )
    _train(trained, (word for word in words for _ in range(counts[word])), trainer)
    return word_piece_core(trained.get_vocab(), lower, unknown)


def _unigram_core(texts: Iterator[str], num_entries: int, form: SpecialForm) -> tokenizers.Tokenizer:
    """T5's vocabulary (Raffel et al. 2020, section 2.2): SentencePiece's, with a mark before each word."""
    controls = [Entry(t, type=UNKNOWN if t == form.roles["unk"] else CONTROL) for t in form.first]
    split = pre_tokenizers.Split(Regex(RUNS), "isolated")
    normalizer = _unigram([*controls, Entry(METASPACE)]).normalizer
    split_texts = (normalizer.normalize_str(text).split(METASPACE)[1:] for text in texts)
    counts = _count_words((f"{METASPACE}{word}" for word in words) for words in split_texts)
    others = (letter for letter in _by_frequency(counts) if letter != METASPACE)
    letters = sorted([METASPACE, *islice(others, num_entries // 2 - 1)])
    kept = frozenset(letters)
    runs: Counter[str] = Counter()
    for word, count in counts.items():
        for run, _ in split.pre_tokenize_str(word):
            known = run if kept.issuperset(run) else "".join(c if c in kept else " " for c in run)
            for part in known.split():
                runs[part] += count
    scored = unigram_entries(runs, letters, num_entries)
    return _unigram([*controls, *(Entry(text, score) for text, score in scored.items())])


def _unigram(entries: Sequence[Entry]) -> tokenizers.Tokenizer:
    core = model_core(SentencePieceModel(tuple(entries)), entries)
    replace = [normalizers.Replace(Regex(REMOVED), ""), normalizers.Replace(Regex(SPACES), " ")]
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), *replace, core.normalizer])
    return core


def _count_words(texts: Iterable[Iterable[str]]) -> Counter[str]:
    """How often each word occurs, but for the rarest of more than `MAX_WORDS`."""
    counts: Counter[str] = Counter()
    floor = 0
    for words in texts:
        counts.update(words)
        while len(counts) > MAX_WORDS:
            floor += 1
            counts = Counter({word: count for word, count in counts.items() if count > floor})
    return counts


def _by_frequency(words: Mapping[str, int]) -> list[str]:
    """The characters of counted words, most frequent first, equal ones in the order of their code points."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    return sorted(counts, key=lambda c: (-counts[c], c))
