"""The tokenizer in a GGUF file's metadata: byte-level BPE, or SentencePiece's BPE with scores."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, processors

from seedbed.base.errors import BundleError, nearest
from seedbed.hub.gguf_file import DAMAGED, GgufFile
from seedbed.text.library import library_errors
from seedbed.text.sentencepiece_model import BYTE, CONTROL, UNKNOWN, USER_DEFINED
from seedbed.text.sentencepiece_tokenizer import scored_core, scored_merges
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.vocabulary_files import ENDINGS, QWEN2, REST, WORDS, cut_core

PREFIX = "tokenizer.ggml."
BYTE_LEVEL, SCORED = "gpt2", "llama"
_GPT2 = rf"{ENDINGS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)"
# The patterns of each pre-tokenizer, applied in turn (llama.cpp's src/llama-vocab.cpp): each match and each
# stretch between two matches is a word.
PATTERNS = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "llama-bpe": (rf"(?i:{ENDINGS})|{WORDS}|\p{{N}}{{1,3}}|{REST}",),
    "qwen2": (QWEN2,),
}
# Other names for them in llama.cpp.
ALIASES = {"phi-2": "gpt-2", "olmo": "gpt-2", "deepseek-r1-qwen": "qwen2"}
ALIASES |= dict.fromkeys(("starcoder", "refact", "command-r"), "smollm")
ALIASES |= dict.fromkeys(("llama3", "llama-v3", "falcon3"), "llama-bpe")


def read_tokenizer(file: GgufFile) -> Tokenizer | None:
    """The file's tokenizer, None if it has none. Errors: BundleError if it is unknown or damaged."""
    kind = file.get(f"{PREFIX}model", str, "no_vocab")
    if kind in ("none", "no_vocab"):
        return None
    if kind not in (BYTE_LEVEL, SCORED):
        raise BundleError(
            f"its tokenizer is of the kind {kind[:40]!r}, unknown here; allowed: gpt2 (byte-level BPE), "
            "llama (BPE with scores); take the model as a folder with a tokenizer.json"
        )
    tokens = file.texts(f"{PREFIX}tokens")
    key = f"{PREFIX}token_type"
    types = file.numbers(key, whole=True) if key in file.metadata else [1] * len(tokens)
    if len(types) != len(tokens):
        raise BundleError(f"its tokenizer has {len(tokens)} tokens, but {len(types)} token types")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise BundleError(f"its tokenizer has {len(tokens) - len(vocabulary)} tokens twice")
    special = _special_tokens(file, tokens)
    is_scored = kind == SCORED
    merges = _scored_merges(file, vocabulary, types) if is_scored else _merges(file)
    pre = "" if is_scored else _pre_tokenizer(file)
    prefix = file.get(f"{PREFIX}add_space_prefix", bool, is_scored)
    with library_errors("its tokenizer", advice=DAMAGED):
        if is_scored:
            core = scored_core(vocabulary, merges, unknown=special.get("unk_token"), prefix=prefix)
        else:
            whole = pre == "llama-bpe"  # `ignore_merges` of LLaMA 3's tokenizer.json
            core = cut_core(vocabulary, merges, PATTERNS[pre], composed=pre == "qwen2", whole_words=whole)
        # A normal token that byte symbols cannot spell is never matched, as in llama.cpp.
        added = [
            AddedToken(token, special=of_type == CONTROL, normalized=False)
            for token, of_type in zip(tokens, types, strict=True)
            if of_type in (CONTROL, USER_DEFINED)
        ]
        core.add_tokens(added)
        if file.get(f"{PREFIX}add_bos_token", bool, is_scored) and "bos_token" in special:
            bos = special["bos_token"]
            core.post_processor = processors.TemplateProcessing(
                single=[bos, "$A"], pair=[bos, "$A", bos, "$B"], special_tokens=[(bos, vocabulary[bos])]
            )
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        config |= {"clean_up_tokenization_spaces": False} | special
        if template := file.get("tokenizer.chat_template", str, ""):
            config["chat_template"] = template
        return Tokenizer(core, config)


def generation_settings(file: GgufFile) -> dict[str, Any]:
    """The end tokens as in `generation_config.json`: the ends of a document, a turn and a message."""
    keys = [f"{PREFIX}{end}_token_id" for end in ("eos", "eot", "eom")]
    ends = list(dict.fromkeys(file.get(key, int) for key in keys if key in file.metadata))
    return {"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}


def _merges(file: GgufFile) -> list[tuple[str, str]]:
    pairs = []
    for merge in file.texts(f"{PREFIX}merges"):
        left, blank, right = merge.partition(" ")
        if not (left and blank and right):
            raise BundleError(f"its tokenizer has the merge {merge[:40]!r}, which is not a pair of tokens")
        pairs.append((left, right))
    return pairs


def _scored_merges(file: GgufFile, vocabulary: dict[str, int], types: list[int]) -> list[tuple[str, str]]:
    """The pairs that merge to each token, highest score first; SentencePiece derives them likewise."""
    scores = file.numbers(f"{PREFIX}scores")
    if len(scores) != len(types):
        raise BundleError(f"its tokenizer has {len(types)} tokens, but {len(scores)} scores")
    rows = zip(vocabulary, scores, types, strict=True)
    return scored_merges(
        {token: score for token, score, kind in rows if kind not in (UNKNOWN, CONTROL, BYTE)}
    )


def _special_tokens(file: GgufFile, tokens: list[str]) -> dict[str, str]:
    """The beginning, end, padding and unknown tokens, by their names in tokenizer_config.json."""
    keys = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    special = {}
    for name, key in keys.items():
        key = f"{PREFIX}{key}_token_id"
        if key in file.metadata:
            token_id = file.get(key, int)
            if not 0 <= token_id < len(tokens):
                raise BundleError(f"its metadata has {token_id} as {key}, but there are {len(tokens)} tokens")
            special[name] = tokens[token_id]
    return special


def _pre_tokenizer(file: GgufFile) -> str:
    pre = file.get(f"{PREFIX}pre", str, "default")
    pre = ALIASES.get(pre, pre)
    if pre not in PATTERNS:
        raise BundleError(
            f"its tokenizer has the pre-tokenizer {pre[:40]!r}, unknown here; "
            f"{nearest(pre[:40], PATTERNS)}; take the model as a folder with a tokenizer.json"
        )
    return pre
