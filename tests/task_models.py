"""Tiny models that answer tasks: a decoder, also with a chat template, an encoder-decoder, two heads."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.models.reference import randomize

import seedbed
from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import family
from seedbed.nn.config import HeadConfig
from seedbed.text.special_form import decoder_form
from seedbed.text.tokenizer import END_OF_TEXT, Tokenizer
from seedbed.text.training import train_tokenizer

WORDS = ["Text", "Label", "Question", "Answer", "Names", "Summary", "small", "garden", "grows", "good", "bad"]
WORDS += ["seed", "leaf", "root", "tree", "rain", "sun"]
CORPUS = [f"Text: a {one} {other}\nLabel: good bad\n" for one in WORDS for other in WORDS]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADS = {"classification": ("bad", "good"), "tagging": ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")}


def model(name: str, tokenizer: Tokenizer, context: int, **changes: Any) -> LanguageModel:
    """A network of two layers of width 32 whose logits are far apart."""
    config = replace(family(name).sized(32, 2), vocab_size=tokenizer.vocab_size, dropout=0.0, **changes)
    made = seedbed.new(replace(config, max_positions=context), tokenizer=tokenizer)
    randomize(made.module)
    return made


@cache
def decoder(context: int = 200, kind: str = "bpe", *, chat: bool = False) -> LanguageModel:
    """GPT-2 with 330 tokens; with a template, that of ChatML."""
    if kind == "unigram":
        return model("llama", train_tokenizer(CORPUS, "unigram", vocab_size=120), context)
    special = decoder_form(END_OF_TEXT, "<|im_start|>", "<|im_end|>")
    tokenizer = train_tokenizer(CORPUS, kind, vocab_size=330, special=special)
    if chat:
        tokenizer = Tokenizer(tokenizer._core, tokenizer.config | {"chat_template": CHATML})
    return model("gpt2", tokenizer, context)


@cache
def encoder_decoder(context: int = 200) -> LanguageModel:
    """BART."""
    made = model("bart", train_tokenizer(CORPUS, "bpe", vocab_size=330), context)
    made.generation["decoder_start_token_id"] = made.eos_ids[0]
    return made


@cache
def headed(kind: str, context: int = 64) -> LanguageModel:
    """BERT with the labels of HEADS."""
    tokenizer = train_tokenizer(CORPUS, "wordpiece", vocab_size=120)
    head: Any = {"kind": kind, "labels": HEADS[kind]}
    return model("bert", tokenizer, context, head=HeadConfig(**head))


def saved(lm: LanguageModel, folder: Path) -> Path:
    """The folder of a model."""
    lm.save(folder)
    return folder
