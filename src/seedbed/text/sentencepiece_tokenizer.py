"""SentencePiece models in the `tokenizers` library's terms, as the families use them.

A blank is a character of its own, and one more begins a text where the model says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from seedbed.base.errors import BundleError
from seedbed.text.sentencepiece_model import (
    BLANK,
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
from seedbed.text.special_tokens import SpecialTokens, read_special_tokens
from seedbed.text.vocabulary_files import surround

# Before a piece that no text may become: a noncharacter of Unicode (section 23.7).
NEVER = "\ufdd5"
ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>"}
ROBERTA |= {"pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}
MAX_CHARACTERS = 1 << 22  # of all pieces with scores: each is cut at each place
MAX_PIECE_CHARACTERS = 256
MAX_CONTROLS, MAX_SENTINELS, MAX_SYMBOLS = 4096, 4096, 1 << 14  # Gemma 3 has over 6,000 symbols


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


def kind_of(model: SentencePieceModel) -> str | None:
    """The kind of a model that nothing else names: merged pieces are LLaMA's, T5's has no begin token."""
    if model.kind == BPE:
        return "llama"
    is_t5 = (model.pad_id, model.eos_id, model.unk_id, model.bos_id) == (0, 1, 2, -1)
    return "t5" if model.kind == UNIGRAM and is_t5 else None


def build(
    kind: str, model: SentencePieceModel, folder: Path, config: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, SpecialTokens]:
    """The tokenizer of a model whose kind is t5, llama, gemma or xlm-roberta, and its control tokens."""
    pieces = list(model.pieces)
    if kind == "xlm-roberta":
        # fairseq's ids: four control tokens, the model's pieces but its first three, the mask.
        first = [Piece("<s>", type=CONTROL), Piece("<pad>", type=CONTROL), Piece("</s>", type=CONTROL)]
        last = Piece("<mask>", type=CONTROL)
        pieces = [*first, Piece("<unk>", type=UNKNOWN), *pieces[3:], last]
        if sum(p.type == UNKNOWN for p in pieces) != 1:
            raise BundleError("its model does not begin with <unk>, <s> and </s>, as XLM-RoBERTa's does")
    core = model_core(model, pieces)
    special = read_special_tokens(folder, config, _defaults(kind, model), frozenset(p.text for p in pieces))
    if kind == "t5":
        sentinels = _sentinels(config)
        special = replace(special, more=(*sentinels, *special.more))
    finish(core, special, pieces)
    eos, bos = special.name("eos_token"), special.name("bos_token")
    if kind == "t5":
        surround(core, None, eos)
    elif kind == "xlm-roberta":
        sep, cls = special.name("sep_token") or "</s>", special.name("cls_token") or "<s>"
        surround(core, cls, sep, between=sep)
    else:
        begins = bos if config.get("add_bos_token", True) else None
        surround(core, begins, eos if config.get("add_eos_token", False) else None)
    return core, special


def build_marian(
    source: SentencePieceModel, vocabulary: dict[str, int], folder: Path, config: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, SpecialTokens]:
    """Marian's tokenizer: the source's model cuts, vocab.json gives the ids of both sides' pieces.

    A piece of the target alone is never made of a text, but decodes. A piece that vocab.json lacks is not
    used; in transformers it is unknown.
    """
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise BundleError("its vocab.json does not count ids from 0 without a gap; download it again")
    defaults = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    special = read_special_tokens(folder, config, defaults, frozenset(vocabulary))
    unknown, controls = special.name("unk_token"), {token.content for token in special.named.values()}
    if unknown not in vocabulary:
        raise BundleError("its vocab.json has no token for what is unknown, <unk> say; download it again")
    known = {p.text: p for p in source.pieces if p.type in (NORMAL, USER_DEFINED)}
    codes = [text for text in vocabulary if text.startswith(">>") and text.endswith("<<")]
    known |= {text: Piece(text) for text in codes} | {text: Piece(text, type=CONTROL) for text in controls}
    known[unknown] = Piece(unknown, type=UNKNOWN)
    texts = sorted(vocabulary, key=vocabulary.__getitem__)
    pieces = [known.get(text, Piece(text, type=UNUSED)) for text in texts]
    core = model_core(source, pieces)
    core.add_tokens([AddedToken(code, normalized=False, special=False) for code in codes])
    finish(core, special, pieces)
    surround(core, None, special.name("eos_token"))
    return core, special


def finish(core: tokenizers.Tokenizer, special: SpecialTokens, pieces: list[Piece]) -> None:
    """Add the control tokens: those that files name, with their flags, then what the model calls so."""
    special.add_to(core)
    known = {token.content for token in core.get_added_tokens_decoder().values()}
    controls = [p.text for p in pieces if p.type == CONTROL and p.text not in known]
    core.add_special_tokens([AddedToken(text, normalized=False) for text in controls])


def _defaults(kind: str, model: SentencePieceModel) -> dict[str, str]:
    if kind == "xlm-roberta":
        return ROBERTA
    ids = {"bos": model.bos_id, "eos": model.eos_id, "unk": model.unk_id, "pad": model.pad_id}
    return {f"{n}_token": model.pieces[i].text for n, i in ids.items() if 0 <= i < len(model.pieces)}


def _sentinels(config: Mapping[str, Any]) -> list[AddedToken]:
    """T5's tokens for gaps, the last first, as they stand at the end of its vocabulary."""
    count = config.get("extra_ids", 100)
    if not isinstance(count, int) or not 0 <= count <= MAX_SENTINELS:
        raise BundleError(f"its tokenizer_config.json has {str(count)[:40]!r} extra_ids; give a count")
    return [AddedToken(f"<extra_id_{i}>", normalized=False, special=True) for i in reversed(range(count))]
