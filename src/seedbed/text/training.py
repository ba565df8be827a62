"""Tokenizers from texts, the same in every run.

The kinds `bpe`, `characters`, `words` and `bytes` are one mechanism, byte-level BPE (Radford et al. 2019,
section 2.2): every byte is a token, and the kinds differ in what longer pieces the vocabulary has and in
where a text is cut. A piece that the vocabulary lacks falls back to its bytes, so `decode(encode(s)) == s`
for every string that UTF-8 holds.

`wordpiece` and `unigram` lose what the published ones lose. The former is that of BERT's uncased models: it
drops case and accents. The latter is T5's: white space of any length and kind is one blank. In both, what no
piece holds is unknown.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from seedbed.base.errors import ConfigError
from seedbed.text.sentencepiece_model import BLANK, CONTROL, UNKNOWN, Piece, SentencePieceModel
from seedbed.text.sentencepiece_tokenizer import hidden_pattern, model_core
from seedbed.text.special_form import SpecialForm, form_of_kind
from seedbed.text.special_tokens import SpecialTokens
from seedbed.text.tokenizer import Tokenizer, blocks, byte_symbols
from seedbed.text.unigram import unigram_pieces
from seedbed.text.vocabulary_files import MAX_WORD_CHARACTERS, word_piece_core

BYTE_KINDS = ("bpe", "characters", "words", "bytes")
KINDS = ("bpe", "wordpiece", "unigram", "characters", "words", "bytes")
JOINED = ("bpe", "words", "unigram")  # their pieces hold the blank before a word, so that a mask does, too
LEAST_PIECES = 4  # of WordPiece and unigram: half of them are letters
MAX_WORDS = 1 << 20  # counted at once; beyond, the rarest are forgotten
# What SentencePiece's nmt_nfkc removes, and what it takes for a blank once a text is in NFKC.
REMOVED = r"[\x01-\x08\x0B\x0E-\x1F\x7F\u008F\u009F]"
BLANKS = rf"[\t\n\f\r \u061C\u1680\u200B\u200C\u200E\u200F\u2028\u2029{BLANK}\uFEFF\uFFFD]+"
# A piece of a unigram model holds letters, digits or neither, never two of these: SentencePiece's rule, too.
RUNS = rf"{BLANK}?(?:[\p{{L}}\p{{M}}]+|\p{{N}}+|[^\p{{L}}\p{{M}}\p{{N}}{BLANK}]+)|{BLANK}"


def train_tokenizer(
    texts: Iterable[str],
    kind: str | None = None,
    *,
    vocab_size: int = 8192,
    special: SpecialForm | None = None,
) -> Tokenizer:
    """Make a tokenizer with at most `vocab_size` tokens: pieces, and the control tokens of `special`.

    The kind is the form's where none is given, and the form the kind's. `bpe` merges pairs of neighbours,
    most frequent first (Sennrich et al. 2016); `wordpiece` does so with the letters of a word; `unigram`
    keeps the substrings that make the texts likeliest (Kudo 2018); `words` takes words with the space before
    them; `characters` takes those beyond ASCII (an ASCII one is its byte); `bytes` takes no pieces.

    Errors: ConfigError for an unknown kind, for one that needs a token which the form lacks, and for a
    vocabulary that is too small.
    """
    form = special or form_of_kind(kind)
    kind = kind or form.kind
    if kind not in KINDS:
        raise ConfigError(f"tokenizer.kind={kind!r} is not known; allowed: {', '.join(KINDS)}")
    if kind not in BYTE_KINDS and form.roles.get("unk") not in form.first:
        raise ConfigError(
            f"tokenizer.kind={kind!r} needs a token for what is unknown, which this family's tokenizers "
            f"lack; allowed: {', '.join(BYTE_KINDS)}"
        )
    own, needed = ("256 bytes", 256) if kind in BYTE_KINDS else (f"{LEAST_PIECES} pieces", LEAST_PIECES)
    num_pieces = vocab_size - form.num_tokens
    if num_pieces < needed:
        raise ConfigError(
            f"tokenizer.vocab_size={vocab_size} cannot hold {own} and {form.num_tokens} special "
            f"tokens; choose at least {needed + form.num_tokens}"
        )
    cut = (block for text in texts for block in blocks(text))
    if kind in BYTE_KINDS:
        core = _byte_core(kind, cut, num_pieces, form.first)
    elif kind == "wordpiece":
        core = _word_piece_core(cut, num_pieces, form)
    else:
        core = _unigram_core(cut, num_pieces, form)
    form.add_to(core, joins=kind in JOINED)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "seedbed_kind": kind}
    return Tokenizer(core, config | {"clean_up_tokenization_spaces": False} | form.config())


def _byte_core(
    kind: str, texts: Iterator[str], num_pieces: int, first: Sequence[str]
) -> tokenizers.Tokenizer:
    if kind == "bpe":
        pieces, merges = _pairs(texts, num_pieces - 256)
    else:
        find = {"characters": _frequent_characters, "words": _frequent_words}
        found = find[kind](texts, num_pieces - 256) if kind in find else []
        pieces, merges = [*byte_symbols(), *found], []
    vocabulary = {piece: i for i, piece in enumerate([*first, *pieces])}
    core = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=kind != "bpe"))
    core.pre_tokenizer = _pre_tokenizer(kind)
    if first and kind in ("characters", "bytes"):
        # Such a run is looked up as a whole: none may be the name of a control token.
        apart = pre_tokenizers.Split(
            Regex(hidden_pattern([Piece(name, type=CONTROL) for name in first])), "merged_with_previous"
        )
        core.pre_tokenizer = pre_tokenizers.Sequence([apart, core.pre_tokenizer])
    core.decoder = decoders.ByteLevel()
    return core


def _pre_tokenizer(kind: str) -> pre_tokenizers.PreTokenizer:
    """Where a text is cut before the vocabulary is asked: at words, around non-ASCII characters, nowhere."""
    if kind == "characters":
        # ASCII runs fall back to their bytes as a whole: three times the speed of one piece a character.
        cut = pre_tokenizers.Split(Regex(r"[^\x00-\x7F]|[\x00-\x7F]{1,64}"), "isolated")
        return pre_tokenizers.Sequence([cut, _pre_tokenizer("bytes")])
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "bytes")


def _pairs(texts: Iterator[str], num_merges: int) -> tuple[list[str], list[tuple[str, str]]]:
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = _pre_tokenizer("bpe")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + num_merges, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(texts, trainer)
    model = json.loads(core.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), [(a, b) for a, b in model["merges"]]


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


def _word_piece_core(texts: Iterator[str], num_pieces: int, form: SpecialForm) -> tokenizers.Tokenizer:
    """BERT's uncased words (Devlin et al. 2019, section 3) in pieces that the library's trainer merges.

    It orders letters and equal pairs as a hash map does, unless it gets all letters as special tokens.
    """
    unknown = form.roles["unk"]
    special = SpecialTokens({"unk_token": AddedToken(unknown)}, (), {})
    lower = {"do_lower_case": True}
    core = word_piece_core({name: i for i, name in enumerate(form.first)}, lower, special)
    counts = _count_words(
        (word for word, _ in core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text)))
        for text in texts
    )
    letters: list[str] = []
    for letter in _by_frequency(counts):
        alone = len(core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(f"a{letter}a"))) > 1
        both = [letter] if alone else [letter, f"##{letter}"]  # a comma or a Chinese one is a word of its own
        if len(letters) + len(both) > num_pieces // 2:
            break
        letters += both
    kept = frozenset(letters)
    words = sorted(w for w in counts if len(w) <= MAX_WORD_CHARACTERS and kept.issuperset(w))
    trained = tokenizers.Tokenizer(models.WordPiece({}, unk_token=unknown))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=len(form.first) + num_pieces,
        min_frequency=2,
        special_tokens=[*form.first, *sorted(letters, key=lambda piece: (len(piece), piece))],
        show_progress=False,
    )
    trained.train_from_iterator((word for word in words for _ in range(counts[word])), trainer)
    return word_piece_core(trained.get_vocab(), lower, special)


def _unigram_core(texts: Iterator[str], num_pieces: int, form: SpecialForm) -> tokenizers.Tokenizer:
    """T5's pieces (Raffel et al. 2020, section 2.2): SentencePiece's, with a mark before each word."""
    controls = [Piece(t, type=UNKNOWN if t == form.roles["unk"] else CONTROL) for t in form.first]
    cut = pre_tokenizers.Split(Regex(RUNS), "isolated")
    blank = _unigram([*controls, Piece(BLANK)])
    counts = _count_words(
        (f"{BLANK}{word}" for word in blank.normalizer.normalize_str(text).split(BLANK)[1:]) for text in texts
    )
    others = (letter for letter in _by_frequency(counts) if letter != BLANK)
    letters = sorted([BLANK, *islice(others, num_pieces // 2 - 1)])
    kept = frozenset(letters)
    runs: Counter[str] = Counter()
    for word, count in counts.items():
        for run, _ in cut.pre_tokenize_str(word):
            known = run if kept.issuperset(run) else "".join(c if c in kept else " " for c in run)
            for part in known.split():
                runs[part] += count
    scored = unigram_pieces(runs, letters, num_pieces)
    return _unigram([*controls, *(Piece(text, score) for text, score in scored.items())])


def _unigram(pieces: Sequence[Piece]) -> tokenizers.Tokenizer:
    core = model_core(SentencePieceModel(tuple(pieces)), pieces)
    core.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(REMOVED), ""),
            normalizers.Replace(Regex(BLANKS), " "),
            core.normalizer,
        ]
    )
    return core


def _count_words(texts: Iterator[Iterable[str]]) -> Counter[str]:
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
    """The characters of counted words, the most frequent first, equals in the order of their code points."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    return sorted(counts, key=lambda c: (-counts[c], c))
