"""SentencePiece models as tokenizers of the `tokenizers` library, as the families use them.

A space is a character of its own (METASPACE), and one more begins a text where the model says so.
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
    BPE,
    BYTE,
    CONTROL,
    METASPACE,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Entry,
    SentencePieceModel,
)
from seedbed.text.special_tokens import SpecialTokens, read_special_tokens
from seedbed.text.vocabulary_files import surround

# Before an entry that no text may become: a noncharacter of Unicode (section 23.7).
NEVER = "\ufdd5"
ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>"}
ROBERTA |= {"pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}
MAX_CHARACTERS = 1 << 22  # of all entries with scores: each is split at each position
MAX_ENTRY_CHARACTERS = 256
MAX_CONTROLS, MAX_SENTINELS, MAX_SYMBOLS = 4096, 4096, 1 << 14  # Gemma 3 has over 6,000 symbols


def scored_merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The pairs that make each entry, highest score first, as SentencePiece merges without a list.

    Errors: BundleError for entries too long to be split at each position.
    """
    if sum(map(len, scores)) > MAX_CHARACTERS or max(map(len, scores), default=0) > MAX_ENTRY_CHARACTERS:
        raise BundleError(
            f"its tokenizer has an entry longer than {MAX_ENTRY_CHARACTERS} characters, or more than "
            f"{MAX_CHARACTERS} in all"
        )
    scored = []
    for entry, score in scores.items():
        splits = ((entry[:k], entry[k:]) for k in range(1, len(entry)))
        scored += [(-score, -len(a), a, b) for a, b in splits if a in scores and b in scores]
    return [(a, b) for _, _, a, b in sorted(scored, key=lambda one: one[:2])]


def scored_core(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], *, unknown: str | None, prefix: bool
) -> tokenizers.Tokenizer:
    """BPE as in LLaMA 2's tokenizer.json: text outside the vocabulary becomes bytes."""
    bpe = models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    core = tokenizers.Tokenizer(bpe)
    begins = [normalizers.Prepend(METASPACE)] if prefix else []
    core.normalizer = normalizers.Sequence([*begins, normalizers.Replace(" ", METASPACE)])
    core.decoder = _decoder(byte_fallback=True, strip=prefix)
    return core


def model_core(model: SentencePieceModel, entries: Sequence[Entry]) -> tokenizers.Tokenizer:
    """A tokenizer that splits as the model does, with `entries` in place of its own; their index is their id.

    BPE's user-defined entries are added tokens, which nothing splits; to a unigram model they are entries
    with a high score. Control entries are not added yet. Errors: BundleError for a model whose mechanism the
    library lacks.
    """
    if model.kind not in (UNIGRAM, BPE) or model.suffix or not model.escape_spaces:
        raise BundleError(
            "its SentencePiece model is of an unknown kind (allowed: unigram and BPE, with a mark for a "
            "space before each word); give a tokenizer.json"
        )
    if model.remove_extra_spaces and b"  " in model.charsmap:
        raise BundleError("its SentencePiece model makes two spaces of a character, which is not supported")
    if model.remove_extra_spaces and any("  " in e.text for e in model.entries if e.type == USER_DEFINED):
        raise BundleError("its SentencePiece model has a symbol with two spaces, which is not supported")
    if max(len(entry.text) for entry in entries) > MAX_ENTRY_CHARACTERS:
        raise BundleError(f"its tokenizer has an entry longer than {MAX_ENTRY_CHARACTERS} characters")
    named = [
        e if e.type in (NORMAL, USER_DEFINED) else Entry(NEVER * (e.type == UNUSED) + e.text, type=e.type)
        for e in entries
    ]
    unknown = next(i for i, entry in enumerate(entries) if entry.type == UNKNOWN)
    if model.kind == BPE:
        merges = scored_merges({e.text: e.score for e in named if e.type in (NORMAL, USER_DEFINED)})
        _require_order(merges, named)
        vocabulary = {entry.text: i for i, entry in enumerate(named)}
        core = scored_core(vocabulary, merges, unknown=named[unknown].text, prefix=False)
        core.model.byte_fallback = model.byte_fallback
    else:
        # A user-defined entry has a score by its bytes, which was measured in sentencepiece 0.2.3.
        bonus = [0.1 * len(e.text.encode()) - 0.1 for e in named]
        own = [b if e.type == USER_DEFINED else e.score for e, b in zip(named, bonus, strict=True)]
        scores = [(e.text, score) for e, score in zip(named, own, strict=True)]
        core = tokenizers.Tokenizer(models.Unigram(scores, unknown, byte_fallback=model.byte_fallback))
    symbols = [e.text for e in entries if e.type == USER_DEFINED and model.kind == BPE]
    if len(symbols) > MAX_SYMBOLS:
        raise BundleError(f"its model has {len(symbols)} user-defined symbols, allowed are {MAX_SYMBOLS}")
    _set_spaces(core, model, named, symbols)
    # Matched in the normalized text, which has the first space.
    core.add_tokens([AddedToken(t, normalized=bool(t.strip(f" {METASPACE}"))) for t in symbols])
    strip = model.dummy_prefix or model.remove_extra_spaces
    never = any(entry.type == UNUSED for entry in entries)
    core.decoder = _decoder(byte_fallback=model.byte_fallback, strip=strip, never=never)
    return core


def _require_order(merges: Sequence[tuple[str, str]], entries: Sequence[Entry]) -> None:
    """Refuse BPE entries of one score: SentencePiece merges the leftmost first, the library by rank."""
    merged = {a + b for a, b in merges}
    by_score: dict[float, str] = {}
    for entry in entries:
        if entry.type == NORMAL and entry.text in merged:
            other = by_score.setdefault(entry.score, entry.text)
            if other != entry.text:
                raise BundleError(
                    f"its BPE model gives {other[:40]!r} and {entry.text[:40]!r} the same score, so that "
                    "the place in a text decides which is merged first; that is not supported: give a "
                    "tokenizer.json"
                )


def _set_spaces(
    core: tokenizers.Tokenizer, model: SentencePieceModel, entries: Sequence[Entry], symbols: Sequence[str]
) -> None:
    """Set how characters and spaces change before the vocabulary and the user's symbols are matched.

    This is what other programs use, as near as the library can: `exact_settings` has where it is not exact.
    """
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        table = normalizers.Precompiled(model.charsmap)
        # The library looks up both characters as one, and would find the first alone.
        two = table.normalize_str("\r") == table.normalize_str("\n")
        steps += [*([normalizers.Replace("\r\n", "\n\n")] if two else []), table]
    if model.remove_extra_spaces:
        steps.append(normalizers.Replace(Regex(rf"\A +|[ {METASPACE}]+\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if model.dummy_prefix and symbols:
        # The library normalizes the symbols, too: with the space they would match at a beginning only.
        before = normalizers.Sequence(steps)
        alone = "|".join(_literal(before.normalize_str(text)) for text in symbols)
        steps.append(normalizers.Replace(Regex(rf"\A(?!(?:{alone})\z)(?m:(?=.))"), METASPACE))
    elif model.dummy_prefix:
        steps.append(normalizers.Prepend(METASPACE))
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", METASPACE)])
    texts = {entry.text for entry in entries}
    # Words are encoded one by one where no entry crosses into the next word: the same tokens, faster.
    split = METASPACE in texts and not any(METASPACE in text[1:] for text in texts if text[:1] != NEVER)
    spaces = pre_tokenizers.Metaspace(METASPACE, prepend_scheme="never", split=split)
    pattern = hidden_pattern(entries) if model.kind == UNIGRAM else ""
    hidden = [pre_tokenizers.Split(Regex(pattern), "merged_with_previous")] if pattern else []
    core.pre_tokenizer = pre_tokenizers.Sequence([spaces, *hidden])


def hidden_pattern(entries: Sequence[Entry]) -> str:
    """A pattern for the beginning of each entry that SentencePiece never matches in a text.

    The library matches all entries; a text split behind that beginning contains none of these. The split is
    where no other entry crosses it, and not between two unknown characters, which would be one token.
    """
    hidden = [e.text for e in entries if e.type in (UNKNOWN, CONTROL, BYTE) and len(e.text) > 1]
    if len(hidden) > MAX_CONTROLS:
        raise BundleError(f"its model has {len(hidden)} control entries, allowed are {MAX_CONTROLS}")
    others = [entry.text for entry in entries if entry.type in (NORMAL, USER_DEFINED)]
    known, pairs = set(others), {pair for text in others for pair in pairwise(text)}

    def cost(text: str, at: int) -> int:
        before, after = text[at - 1], text[at]
        return 2 * ((before, after) in pairs) + (before not in known and after not in known)

    behind: dict[str, list[str]] = {}
    for text in hidden:
        best = min(range(1, len(text)), key=lambda at: cost(text, at))
        behind.setdefault(text[:best], []).append(text[best:])
    return "|".join(f"{_literal(text)}(?={'|'.join(map(_literal, rest))})" for text, rest in behind.items())


def exact_settings(model: SentencePieceModel) -> dict[str, Any]:
    """What `exact_sentencepiece` has to know where the library's tokenizer is not exact.

    The library applies a character map in another way, breaks a unigram model's ties in another way, and
    normalizes BPE's symbols: one alone in a text gets no space before it, one of spaces no place in a row.
    """
    symbols = [entry.text for entry in model.entries if entry.type == USER_DEFINED]
    prefix, extra = model.dummy_prefix, model.remove_extra_spaces
    return {"dummy_prefix": prefix, "remove_extra_spaces": extra, "symbols": symbols}


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() or ord(c) > 0x7F else f"\\x{ord(c):02X}" for c in text)


def _decoder(*, byte_fallback: bool, strip: bool, never: bool = False) -> decoders.Decoder:
    bytes_too = [decoders.ByteFallback()] if byte_fallback else []
    ends = [decoders.Fuse(), *([decoders.Strip(" ", 1, 0)] if strip else [])]
    begins = [decoders.Replace(NEVER, "")] if never else []
    return decoders.Sequence([*begins, decoders.Replace(METASPACE, " "), *bytes_too, *ends])


# ---- the families


def kind_of(model: SentencePieceModel) -> str | None:
    """The kind of a model that nothing else names: BPE is LLaMA's, T5's has no begin token."""
    if model.kind == BPE:
        return "llama"
    is_t5 = (model.pad_id, model.eos_id, model.unk_id, model.bos_id) == (0, 1, 2, -1)
    return "t5" if model.kind == UNIGRAM and is_t5 else None


def build(
    kind: str, model: SentencePieceModel, folder: Path, config: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, SpecialTokens]:
    """The tokenizer of a model of the kind t5, llama, gemma or xlm-roberta, and its special tokens."""
    entries = list(model.entries)
    ids = {"bos": model.bos_id, "eos": model.eos_id, "unk": model.unk_id, "pad": model.pad_id}
    defaults = {f"{name}_token": entries[i].text for name, i in ids.items() if 0 <= i < len(entries)}
    if kind == "xlm-roberta":
        # fairseq's ids: four special tokens, the model's entries but its first three, the mask.
        first = [Entry(text, type=CONTROL) for text in ("<s>", "<pad>", "</s>")]
        entries = [*first, Entry("<unk>", type=UNKNOWN), *entries[3:], Entry("<mask>", type=CONTROL)]
        defaults = ROBERTA
        if sum(e.type == UNKNOWN for e in entries) != 1:
            raise BundleError("its model does not begin with <unk>, <s> and </s>, as XLM-RoBERTa's does")
    core = model_core(model, entries)
    special = read_special_tokens(folder, config, defaults, frozenset(e.text for e in entries))
    if kind == "t5":
        count = config.get("extra_ids", 100)
        if not isinstance(count, int) or not 0 <= count <= MAX_SENTINELS:
            raise BundleError(f"its tokenizer_config.json has {str(count)[:40]!r} extra_ids; give a count")
        names = (f"<extra_id_{i}>" for i in reversed(range(count)))  # in the order of their ids
        sentinels = (AddedToken(name, normalized=False, special=True) for name in names)
        special = replace(special, more=(*sentinels, *special.more))
    _add_special(core, special, entries)
    eos, bos = special.name("eos_token"), special.name("bos_token")
    if kind == "t5":
        surround(core, None, eos)
    elif kind == "xlm-roberta":
        sep = special.name("sep_token") or "</s>"
        surround(core, special.name("cls_token") or "<s>", sep, between=sep)
    else:
        begins = bos if config.get("add_bos_token", True) else None
        surround(core, begins, eos if config.get("add_eos_token", False) else None)
    return core, special


def build_marian(
    source: SentencePieceModel, vocabulary: dict[str, int], folder: Path, config: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, SpecialTokens]:
    """Marian's tokenizer: the source's model splits, vocab.json has the ids of both sides' entries.

    An entry of the target alone only decodes; one that vocab.json lacks is not used.
    """
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise BundleError("its vocab.json does not count ids from 0 without a gap; download it again")
    defaults = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    special = read_special_tokens(folder, config, defaults, frozenset(vocabulary))
    unknown, controls = special.name("unk_token"), {token.content for token in special.named.values()}
    if unknown not in vocabulary:
        raise BundleError("its vocab.json has no token for unknown text, such as <unk>; download it again")
    known = {e.text: e for e in source.entries if e.type in (NORMAL, USER_DEFINED)}
    codes = [text for text in vocabulary if text.startswith(">>") and text.endswith("<<")]
    known |= {text: Entry(text) for text in codes} | {text: Entry(text, type=CONTROL) for text in controls}
    known[unknown] = Entry(unknown, type=UNKNOWN)
    texts = sorted(vocabulary, key=vocabulary.__getitem__)
    entries = [known.get(text, Entry(text, type=UNUSED)) for text in texts]
    core = model_core(source, entries)
    core.add_tokens([AddedToken(code, normalized=False, special=False) for code in codes])
    _add_special(core, special, entries)
    surround(core, None, special.name("eos_token"))
    return core, special


def _add_special(core: tokenizers.Tokenizer, special: SpecialTokens, entries: Sequence[Entry]) -> None:
    """Add the special tokens that files name, with their flags, then the model's other control entries."""
    special.add_to(core)
    known = {token.content for token in core.get_added_tokens_decoder().values()}
    controls = [e.text for e in entries if e.type == CONTROL and e.text not in known]
    core.add_special_tokens([AddedToken(text, normalized=False) for text in controls])
