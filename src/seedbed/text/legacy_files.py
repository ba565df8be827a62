"""The tokenizer of a folder without a tokenizer.json, from legacy files.

Its kind is that of `tokenizer_class`, else of `model_type`, else the only one that has such files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import processors

from seedbed.base.errors import BundleError
from seedbed.base.json_file import has_file, read_object
from seedbed.text.library import library_errors
from seedbed.text.sentencepiece_exact import EXACT_KEY
from seedbed.text.sentencepiece_model import read_model
from seedbed.text.sentencepiece_tokenizer import ROBERTA, build, build_marian, exact_settings, kind_of
from seedbed.text.special_tokens import KEPT, SpecialTokens, read_special_tokens
from seedbed.text.vocabulary_files import (
    QWEN2,
    WORD_END,
    byte_core,
    read_lines,
    read_merges,
    read_vocabulary,
    surround,
    word_end_core,
    word_piece_core,
)

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
WORDS = (("vocab.txt",),)
MODELS = tuple((f"{name}.model",) for name in ("spiece", "tokenizer", "sentencepiece.bpe", "sentencepiece"))
MARIAN = (("source.spm", "target.spm", "vocab.json"),)
# Of each kind: its files, its classes in transformers without "Tokenizer", its model types.
KINDS = {
    "gpt2": (PAIRS, "GPT2", "gpt2"),
    "gpt": (PAIRS, "OpenAIGPT", "openai-gpt"),
    "qwen2": (PAIRS, "Qwen2", "qwen2 qwen3"),
    "roberta": (PAIRS, "Roberta Bart Longformer LED", "roberta bart longformer led"),
    "bert": (WORDS, "Bert DistilBert Electra MobileBert", "bert distilbert electra mobilebert"),
    "marian": (MARIAN, "Marian", "marian"),
    "t5": (MODELS, "T5", "t5"),
    "llama": (MODELS, "Llama", "llama mistral mixtral"),
    "gemma": (MODELS, "Gemma", "gemma gemma2 gemma3 gemma3_text"),
    "xlm-roberta": (MODELS, "XLMRoberta", "xlm-roberta"),
}
CLASSES = {f"{name}Tokenizer": kind for kind, (_, names, _) in KINDS.items() for name in names.split()}
MODEL_TYPES = {name: kind for kind, (_, _, names) in KINDS.items() for name in names.split()}
# Names of no kind: transformers writes them beside a tokenizer.json.
ANY = ("PreTrainedTokenizer", "TokenizersBackend", "None")
GPT2_END = "<|endoftext|>"
DEFAULTS = {
    "gpt2": dict.fromkeys(("bos_token", "eos_token", "unk_token"), GPT2_END),
    "qwen2": dict.fromkeys(("eos_token", "unk_token", "pad_token"), GPT2_END),
    "gpt": {"unk_token": "<unk>"},
    "roberta": ROBERTA,
    "bert": {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")},
}
ADVICE = "take all of the tokenizer's files from one place, or give a tokenizer.json"


def has_legacy_files(folder: Path) -> bool:
    """Whether a folder has all files of a tokenizer without a tokenizer.json."""
    return any(_present(folder, sets) for sets, _, _ in KINDS.values())


def read_legacy_files(folder: Path, model: str = "") -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """The tokenizer and its config, for a folder with `has_legacy_files`, or one SentencePiece `model` in it.

    A model that nothing names a kind of has its own ids, and its own begin token, as LLaMA's.
    Errors: BundleError where the kind is unknown or not supported, or where a file is damaged.
    """
    config = _optional(folder / "tokenizer_config.json")
    with library_errors(folder, advice=ADVICE):
        try:
            core, special, exact = _build(folder, config, model)
        except BundleError as error:
            raise BundleError(str(error) if str(folder) in str(error) else f"{folder}: {error}") from None
    kept = {key: config[key] for key in KEPT if key in config}
    kept |= {role: token.content for role, token in special.named.items()}
    if special.more:
        kept["extra_special_tokens"] = [token.content for token in special.more]
    if exact:
        kept[EXACT_KEY] = exact
    return core, {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | kept


def _build(
    folder: Path, config: dict[str, Any], model_name: str = ""
) -> tuple[tokenizers.Tokenizer, SpecialTokens, dict[str, Any] | None]:
    kind, names = _kind_of_model(folder, config, model_name) if model_name else _kind(folder, config)
    files = [folder / name for name in names]
    if kind == "marian":
        if (folder / "target_vocab.json").exists():
            raise BundleError("its source and target have separate vocabularies, which is not supported")
        model = read_model(files[0])
        built = build_marian(model, read_vocabulary(files[2]), folder, config)
        return *built, exact_settings(model)
    if KINDS[kind][0] is MODELS:
        model = read_model(files[0])
        return *build(kind, model, folder, config), exact_settings(model)
    vocabulary = read_lines(files[0]) if kind == "bert" else read_vocabulary(files[0])
    special = read_special_tokens(folder, config, DEFAULTS[kind], frozenset(vocabulary))
    if kind == "bert":
        core = word_piece_core(vocabulary, config, special.name("unk_token"))
    elif kind == "gpt":
        core = word_end_core(vocabulary, read_merges(files[1]), special.name("unk_token"))
    else:
        pattern, prefix = (QWEN2 if kind == "qwen2" else None), config.get("add_prefix_space") is True
        core = byte_core(vocabulary, read_merges(files[1]), pattern, prefix=prefix)
    special.add_to(core)
    bos = special.name("bos_token") if config.get("add_bos_token") is True else None
    eos = special.name("eos_token") if config.get("add_eos_token") is True else None
    cls, sep = special.name("cls_token"), special.name("sep_token")
    if kind == "bert":
        surround(core, cls, sep, segments=True)
    elif kind == "roberta" and cls and sep:
        surround(core, cls, sep, between=sep)
    elif kind == "gpt2":
        core.post_processor = processors.ByteLevel(trim_offsets=False)
        if bos or eos:
            surround(core, bos, eos)
    return core, special, None


def _kind_of_model(folder: Path, config: Mapping[str, Any], name: str) -> tuple[str, tuple[str, ...]]:
    """The kind of a SentencePiece model that was named, and its file."""
    named = str(config.get("tokenizer_class")).removesuffix("Fast")
    of_models = [kind for kind, (sets, _, _) in KINDS.items() if sets is MODELS]
    kind = CLASSES.get(named) or kind_of(read_model(folder / name)) or "llama"
    return (kind if kind in of_models else "llama"), (name,)


def _kind(folder: Path, config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The kind of a folder's tokenizer, and the files that it is read from."""
    named = str(config.get("tokenizer_class")).removesuffix("Fast")
    model_type = str(_optional(folder / "config.json").get("model_type"))
    if named in CLASSES or named not in ANY:
        kind, evidence = CLASSES.get(named), f"the tokenizer_class {named[:40]!r}"
    elif model_type != "None":
        kind, evidence = MODEL_TYPES.get(model_type), f"the model_type {model_type[:40]!r}"
    else:
        kind, evidence = _guess(folder), "files that several kinds of tokenizers have"
    if kind is None:
        raise BundleError(
            f"it has no tokenizer.json and {evidence}, whose kind of tokenizer is not known; name one of "
            f"{', '.join(CLASSES)} as tokenizer_class in tokenizer_config.json, or give a tokenizer.json"
        )
    names = _present(folder, KINDS[kind][0])
    if names is None:
        expected = " or ".join(" + ".join(names) for names in KINDS[kind][0])
        raise BundleError(f"it has no tokenizer.json and {evidence}, but not {expected}; {ADVICE}")
    return kind, names


def _guess(folder: Path) -> str | None:
    """The only kind that has a folder's files, None where several have them."""
    if _present(folder, MARIAN):
        return "marian"
    kinds: list[str | None] = []
    if names := _present(folder, PAIRS):
        vocabulary = read_vocabulary(folder / names[0])
        is_gpt = any(text.endswith(WORD_END) for text in vocabulary)
        is_roberta = {"<s>", "<pad>", "</s>", "<unk>"} <= vocabulary.keys()
        kinds.append("gpt" if is_gpt else "roberta" if is_roberta else "gpt2")
    if _present(folder, WORDS):
        kinds.append("bert")
    if names := _present(folder, MODELS):
        kinds.append(kind_of(read_model(folder / names[0])))
    return kinds[0] if len(kinds) == 1 else None


def _present(folder: Path, sets: tuple[tuple[str, ...], ...]) -> tuple[str, ...] | None:
    return next((names for names in sets if all(has_file(folder / name) for name in names)), None)


def _optional(file: Path) -> dict[str, Any]:
    return read_object(file) if has_file(file) else {}
