"""The unigram model: exact sums over all segmentations, and entries as good as SentencePiece's."""

import io
import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
import sentencepiece

from seedbed.data.corpus import Corpus
from seedbed.data.settings import DataSettings
from seedbed.text.training import train_tokenizer
from seedbed.text.unigram import MAX_WORD_CHARACTERS, _Lattice, unigram_entries


def segmentations(text: str) -> list[list[str]]:
    """All segmentations of a text."""
    positions = range(1, len(text))
    chosen = itertools.chain.from_iterable(itertools.combinations(positions, n) for n in range(len(text)))
    return [[text[a:b] for a, b in itertools.pairwise((0, *cut, len(text)))] for cut in chosen]


def test_expected_counts_are_the_sums_over_all_segmentations() -> None:
    words = {"seed": 3, "seeds": 2, "dee": 1, "s": 4}
    names = ["s", "e", "d", "ee", "se", "seed", "ed", "eds"]
    rng = random.Random(1)
    probabilities = {name: rng.random() for name in names}
    reference: Counter[str] = Counter()
    for word, count in words.items():
        found = [cut for cut in segmentations(word) if probabilities.keys() >= {*cut}]
        chances = [math.prod(probabilities[entry] for entry in cut) for cut in found]
        for cut, chance in zip(found, chances, strict=True):
            for entry in cut:
                reference[entry] += count * chance / sum(chances)
    lattice = _Lattice([*words], {name: i for i, name in enumerate(names)})
    values = np.array([*probabilities.values()])
    expected = lattice.expected(np.array([*words.values()], dtype=np.float64), values)
    np.testing.assert_allclose(expected, [reference[name] for name in names], rtol=1e-12)
    own = _Lattice(names, {name: i for i, name in enumerate(names)}).without_itself(values)
    for name, found_chance in zip(names, own, strict=True):
        others = [cut for cut in segmentations(name) if len(cut) > 1 and probabilities.keys() >= {*cut}]
        assert found_chance == pytest.approx(sum(math.prod(probabilities[p] for p in c) for c in others))


def test_entries_are_probabilities_and_repeated_substrings_are_entries() -> None:
    found = unigram_entries({"seedling": 20, "seeds": 20, "ling": 5, "q": 1}, sorted("degilnqsz"), 15)
    assert len(found) <= 15 and {*"degilnqsz"} <= found.keys()  # z occurs nowhere
    assert {"seed", "ling"} & found.keys() or "seedling" in found
    assert sum(map(math.exp, found.values())) <= 1.01
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert unigram_entries({}, ["a"], 4) == {"a": 0.0}


def test_a_long_word_and_a_great_count_keep_their_probability() -> None:
    """24 letters, each rarer than one in 10^9, would be 0 in a float64 if a word had no limit."""
    letters = [chr(0x4E00 + i) for i in range(200)]
    words = {"".join(letters): 1, "aa": 10**9}
    found = unigram_entries(words, ["a", *letters], 210)
    assert all(map(math.isfinite, found.values())) and {"a", *letters} <= found.keys()
    assert MAX_WORD_CHARACTERS == 24


def test_a_text_has_as_few_tokens_as_with_sentencepiece() -> None:
    """On lines that neither saw, without tables; both have 2,000 entries from the same 400 kB of prose."""
    texts = Corpus(DataSettings(train="builtin:prose", validation_fraction=0)).training_texts()
    lines = [line for text in texts for line in text.split("\n") if line.strip() and "---" not in line]
    seen, unseen = lines[::5], lines[2::20]
    ours = train_tokenizer(seen, "unigram", vocab_size=2103)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(seen),
        model_writer=model,
        vocab_size=2003,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert ours.vocab_size == theirs.get_piece_size() + 100
    ratio = sum(map(len, ours.encode_batch(unseen))) / sum(map(len, theirs.encode(unseen)))
    assert ratio < 1.01  # 0.98
