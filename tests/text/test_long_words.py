"""Words and lines of any length: training is bounded, and nothing else changes by it."""

import json
import random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from seedbed.text.tokenizer import LONGEST_BLOCK, blocks
from seedbed.text.training import BYTE_KINDS, MAX_WORD_BYTES, train_tokenizer

GENOME = "".join(random.Random(0).choices("ACGT", k=60_000))


def test_merges_of_a_long_word_are_those_of_its_parts() -> None:
    parts = [GENOME[i : i + MAX_WORD_BYTES] for i in range(0, len(GENOME), MAX_WORD_BYTES)]
    whole, cut = (train_tokenizer(texts, "bpe", vocab_size=600) for texts in ([GENOME], parts))
    assert whole.fingerprint == cut.fingerprint and whole.vocab_size == 600
    assert max(map(len, whole.vocabulary)) <= MAX_WORD_BYTES


def test_merges_of_other_words_are_those_of_the_library() -> None:
    words = ["the", "garden", "seed", "größe", "漢字", "  \n\t", "x" * (MAX_WORD_BYTES - 1), "12,5!"]
    texts = [" ".join(random.Random(n).choices(words, k=200)) for n in range(5)]
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    plain.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    ours = train_tokenizer(texts, "bpe", vocab_size=401).definition()["model"]
    assert ours["merges"] == json.loads(plain.to_str())["model"]["merges"]


@pytest.mark.parametrize("kind", BYTE_KINDS)
def test_a_line_without_a_blank_trains_and_decodes(kind: str) -> None:
    tokenizer = train_tokenizer([GENOME], kind, vocab_size=400)
    assert max(map(len, tokenizer.vocabulary)) <= MAX_WORD_BYTES
    ids = tokenizer.encode(GENOME)
    assert tokenizer.decode(ids) == GENOME and len(ids) > len(GENOME) // MAX_WORD_BYTES


@pytest.mark.parametrize("text", ["ACGT" * 500_000, " " * 600_000, "a" * LONGEST_BLOCK, "ab " * 100_000])
def test_no_block_is_longer_than_is_bounded(text: str) -> None:
    found = list(blocks(text))
    assert "".join(found) == text and max(map(len, found)) <= LONGEST_BLOCK
    assert list(blocks("ab cd ef", block_characters=1, longest=3)) == ["ab", " cd", " ef"]
