"""Pieces with scores, as SentencePiece makes them, in the `tokenizers` library's terms.

A blank is a character of its own, and one more begins a text where the model says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from seedbed.base.errors import BundleError
from seedbed.text.sentencepiece_model import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Piece,
    SentencePieceModel,
)

BLANK = "\u2581"
# Before a piece that no text may become: a noncharacter of Unicode (section 23.7).
NEVER = "\ufdd5"
MAX_CHARACTERS = 1 << 22  # of all pieces with scores: each is cut at each place
MAX_PIECE_CHARACTERS = 256
MAX_CONTROLS, MAX_SYMBOLS = 4096, 1 << 14  # Gemma 3 has over 6,000 symbols


def scored_merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The pairs that make each piece, of the highest score first: what SentencePiece does without a list.

    Errors: BundleError for pieces too long to be cut at each place.
    """
    if sum(map(len, scores)) > MAX_CHARACTERS or max(map(len, scores), default=0) > MAX_PIECE_CHARACTERS:
        raise BundleError(
            f"its tokenizer has a piece beyond {MAX_PIECE_CHARACTERS} characters, or {MAX_CHARACTERS} in all"
        )
    scored = []
    for piece, score in scores.items():
        cuts = ((piece[:k], piece[k:]) for k in range(1, len(piece)))
        scored += [
            (-score, -len(left), left, right) for left, right in cuts if left in scores and right in scores
        ]
    return [(left, right) for _, _, left, right in sorted(scored, key=lambda one: one[:2])]


def scored_core(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], *, unknown: str | None, prefix: bool
) -> tokenizers.Tokenizer:
    """Merged pieces as the tokenizer.json of LLaMA 2 has them, what no piece holds as bytes."""
    core = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    begins = [normalizers.Prepend(BLANK)] if prefix else []
    core.normalizer = normalizers.Sequence([*begins, normalizers.Replace(" ", BLANK)])
    core.decoder = _decoder(byte_fallback=True, strip=prefix)
    return core


def model_core(model: SentencePieceModel, pieces: Sequence[Piece]) -> tokenizers.Tokenizer:
    """A tokenizer that cuts as the model does, with `pieces`, whose place is their id, in place of its own.

    Pieces that users defined are added tokens; control pieces are none yet. Errors: BundleError where the
    model works in a way that the library lacks.
    """
    if model.kind not in (UNIGRAM, BPE) or model.suffix or not model.escape_blanks:
        raise BundleError(
            "its SentencePiece model is of a kind unknown here (allowed: unigram and BPE, with a mark for a "
            "blank before each word); give a tokenizer.json"
        )
    if max(len(piece.text) for piece in pieces) > MAX_PIECE_CHARACTERS:
        raise BundleError(f"its tokenizer has a piece beyond {MAX_PIECE_CHARACTERS} characters")
    named = [
        p
        if p.type in (NORMAL, USER_DEFINED)
        else p._replace(score=0.0, text=NEVER * (p.type == UNUSED) + p.text)
        for p in pieces
    ]
    unknown = next(i for i, piece in enumerate(pieces) if piece.type == UNKNOWN)
    texts = [piece.text for piece in named]
    scores = {piece.text: piece.score for piece in named if piece.type in (NORMAL, USER_DEFINED)}
    if model.kind == BPE:
        merges = scored_merges(scores)
        vocabulary = {text: i for i, text in enumerate(texts)}
        core = scored_core(vocabulary, merges, unknown=texts[unknown], prefix=False)
        core.model.byte_fallback = model.byte_fallback
    else:
        core = tokenizers.Tokenizer(
            models.Unigram([(p.text, p.score) for p in named], unknown, byte_fallback=model.byte_fallback)
        )
    own = [piece.text for piece in pieces if piece.type == USER_DEFINED]
    if len(own) > MAX_SYMBOLS:
        raise BundleError(f"its model has {len(own)} user-defined symbols, allowed are {MAX_SYMBOLS}")
    _blanks(core, model, named, own)
    # Found in the normalized text, which a first blank was put before as a whole.
    core.add_tokens([AddedToken(text, normalized=not _is_blank(text), special=False) for text in own])
    strip = model.dummy_prefix or model.remove_extra_blanks
    never = any(piece.type == UNUSED for piece in pieces)
    core.decoder = _decoder(byte_fallback=model.byte_fallback, strip=strip, never=never)
    return core


def _blanks(
    core: tokenizers.Tokenizer, model: SentencePieceModel, pieces: Sequence[Piece], own: Sequence[str]
) -> None:
    """What becomes of characters and blanks before the pieces, and the symbols `own`, are looked for.

    Exact but for a text that is one of the symbols and nothing else, which gets no blank before it.
    """
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        table = normalizers.Precompiled(model.charsmap)
        # The library looks both characters up as one, and would find the first alone.
        two = table.normalize_str("\r") == table.normalize_str("\n")
        steps += [*([normalizers.Replace("\r\n", "\n\n")] if two else []), table]
    if model.remove_extra_blanks:
        steps += [
            normalizers.Replace(Regex(rf"\A +|[ {BLANK}]+\z"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    if model.dummy_prefix and own:
        # The library normalizes the symbols, too: with the blank they would be found at a beginning only.
        before = normalizers.Sequence(steps)
        alone = "|".join(_literal(before.normalize_str(text)) for text in own)
        steps.append(normalizers.Replace(Regex(rf"\A(?!(?:{alone})\z)(?m:(?=.))"), BLANK))
    elif model.dummy_prefix:
        steps.append(normalizers.Prepend(BLANK))
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", BLANK)])
    texts = {piece.text for piece in pieces}
    # Words are looked up one by one where no piece goes on into the next word: the same pieces, sooner.
    split = BLANK in texts and not any(BLANK in text[1:] for text in texts if text[:1] != NEVER)
    cuts: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Metaspace(BLANK, prepend_scheme="never", split=split)
    ]
    if model.kind == UNIGRAM and (pattern := hidden_pattern(pieces)):
        cuts.append(pre_tokenizers.Split(Regex(pattern), "merged_with_previous"))
    core.pre_tokenizer = pre_tokenizers.Sequence(cuts)


def _is_blank(text: str) -> bool:
    return not text.strip(f" {BLANK}")


def hidden_pattern(pieces: Sequence[Piece]) -> str:
    """A pattern for the beginning of a piece that SentencePiece never finds in a text.

    The library looks all pieces of a unigram model up; a text that is cut behind that beginning holds none.
    The cut lies where no other piece lies across it, and not between two characters that are both unknown,
    which would be one unknown piece.
    """
    hidden = [p.text for p in pieces if p.type in (UNKNOWN, CONTROL, BYTE) and len(p.text) > 1]
    if len(hidden) > MAX_CONTROLS:
        raise BundleError(f"its model has {len(hidden)} control pieces, allowed are {MAX_CONTROLS}")
    others = [piece.text for piece in pieces if piece.type in (NORMAL, USER_DEFINED)]
    known, pairs = set(others), {pair for text in others for pair in pairwise(text)}

    def cost(text: str, cut: int) -> int:
        before, after = text[cut - 1], text[cut]
        return 2 * ((before, after) in pairs) + (before not in known and after not in known)

    behind: dict[str, list[str]] = {}
    for text in hidden:
        cut = min(range(1, len(text)), key=lambda at: cost(text, at))
        behind.setdefault(text[:cut], []).append(text[cut:])
    return "|".join(f"{_literal(text)}(?={'|'.join(map(_literal, rest))})" for text, rest in behind.items())


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() or ord(c) > 0x7F else f"\\x{ord(c):02X}" for c in text)


def _decoder(*, byte_fallback: bool, strip: bool, never: bool = False) -> decoders.Decoder:
    steps: list[decoders.Decoder] = [decoders.Replace(NEVER, "")] if never else []
    steps.append(decoders.Replace(BLANK, " "))
    steps += [decoders.ByteFallback()] if byte_fallback else []
    return decoders.Sequence([*steps, decoders.Fuse(), *([decoders.Strip(" ", 1, 0)] if strip else [])])
