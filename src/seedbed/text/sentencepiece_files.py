"""SentencePiece models as the families use them: whose ids they are, and what stands around a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, processors

from seedbed.base.errors import BundleError
from seedbed.text.scored_pieces import model_core
from seedbed.text.sentencepiece_model import (
    BPE,
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

MAX_SENTINELS = 4096


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
        around_pair(core, cls, sep)
    else:
        begins = bos if config.get("add_bos_token", True) else None
        surround(core, begins, eos if config.get("add_eos_token", False) else None)
    return core, special


def around_pair(core: tokenizers.Tokenizer, cls: str, sep: str) -> None:
    """RoBERTa's tokens around one text, and around two: <s> A </s> </s> B </s>."""
    ids = {text: core.token_to_id(text) for text in (cls, sep)}
    if None in ids.values():
        raise BundleError(f"its vocabulary lacks {cls} or {sep}; take all files from one tokenizer")
    core.post_processor = processors.TemplateProcessing(
        single=[cls, "$A", sep], pair=[cls, "$A", sep, sep, "$B", sep], special_tokens=list(ids.items())
    )


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
        names = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>"}
        return names | {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    ids = {"bos": model.bos_id, "eos": model.eos_id, "unk": model.unk_id, "pad": model.pad_id}
    return {f"{n}_token": model.pieces[i].text for n, i in ids.items() if 0 <= i < len(model.pieces)}


def _sentinels(config: Mapping[str, Any]) -> list[AddedToken]:
    """T5's tokens for gaps, the last first, as they stand at the end of its vocabulary."""
    count = config.get("extra_ids", 100)
    if not isinstance(count, int) or not 0 <= count <= MAX_SENTINELS:
        raise BundleError(f"its tokenizer_config.json has {str(count)[:40]!r} extra_ids; give a count")
    return [AddedToken(f"<extra_id_{i}>", normalized=False, special=True) for i in reversed(range(count))]
