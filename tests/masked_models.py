"""Tiny models that fill blanks, with trained tokenizers: WordPiece, unigram, byte-level BPE."""

from dataclasses import replace
from functools import cache

import torch
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Core

from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import build, family
from seedbed.text.tokenizer import Tokenizer

NAMES = {
    "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "roberta": {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"},
}
NAMES["bart"] = NAMES["roberta"]
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(4))
CORPUS = [
    "The cat sat on the mat, and the dogs were walking (slowly) around it.",
    "A man walks, talks and is singing; another walked and sang loudly.",
    "It doesn't matter: the weather in Paris was cold, colder, coldest.",
] * 4
CONTEXT = 40


@cache
def tokenizer(kind: str) -> Tokenizer:
    """Train a tokenizer of the family's published kind on a few sentences."""
    if kind == "t5":
        return scored_tokenizer()
    names = NAMES[kind]
    special = [AddedToken(t, special=True, normalized=False, lstrip=kind != "bert" and n == "mask")
               for n, t in names.items()]  # fmt: skip
    if kind == "bert":
        core = Core(models.WordPiece(unk_token="[UNK]"))
        core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
        core.decoder = decoders.WordPiece()
    else:
        core = Core(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=special,
                                      show_progress=False)  # fmt: skip
        core.decoder = decoders.ByteLevel()
    core.train_from_iterator(CORPUS, trainer)
    ends = [(names[n], core.token_to_id(names[n])) for n in ("sep", "cls")]
    core.post_processor = (processors.BertProcessing if kind == "bert" else processors.RobertaProcessing)(
        *ends
    )
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    return Tokenizer(core, config | {f"{name}_token": token for name, token in names.items()})


def scored_tokenizer() -> Tokenizer:
    """Train T5's: a unigram model whose tokens spell spaces; the sentinels follow in descending order."""
    core = Core(models.Unigram())
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    names = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=[*names.values()], unk_token="<unk>",
                                      show_progress=False)  # fmt: skip
    core.train_from_iterator(CORPUS, trainer)
    core.add_special_tokens([AddedToken(name, normalized=False) for name in reversed(SENTINELS)])
    core.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)]
    )
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    return Tokenizer(core, config | {f"{name}_token": token for name, token in names.items()})


@cache
def model(kind: str) -> LanguageModel:
    """Return a model with random weights, of which no two probabilities are equal within rounding."""
    own = tokenizer(kind)
    config = replace(family(kind).sized(32, 2), vocab_size=own.vocab_size + 3, max_positions=CONTEXT)
    module, generator = build(config), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(std=0.2, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    start = {"bart": {"decoder_start_token_id": 2}, "t5": {"decoder_start_token_id": 0}}
    return LanguageModel(module.eval(), own, generation=start.get(kind))
