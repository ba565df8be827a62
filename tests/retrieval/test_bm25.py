"""BM25 beside a hand-written one with FTS5's constants, and texts that a query language could misread."""

import math
import random
from collections import Counter

import pytest

from seedbed.retrieval.bm25 import BM25Index

K1, B = 1.2, 0.75
WORDS = [f"{a}{b}{c}o" for a in "bdfgk" for b in "aou" for c in "bdfgk"]  # no English endings


def scores(texts: list[list[str]], query: list[str]) -> list[float]:
    """BM25 of each text (Robertson and Zaragoza 2009, equation 3.15), with FTS5's least weight of a word."""
    mean = sum(map(len, texts)) / len(texts)
    found = [0.0] * len(texts)
    for word in dict.fromkeys(query):
        containing = sum(word in text for text in texts)
        weight = math.log((len(texts) - containing + 0.5) / (containing + 0.5))
        weight = weight if weight > 0 else 1e-6
        for number, text in enumerate(texts):
            count = Counter(text)[word]
            found[number] += weight * count * (K1 + 1) / (count + K1 * (1 - B + B * len(text) / mean))
    return found


def test_the_order_is_that_of_a_hand_written_bm25() -> None:
    rng = random.Random(0)
    common = WORDS[:3]  # in more than half of the texts
    texts = [rng.choices(WORDS, k=rng.randint(3, 40)) + rng.sample(common, 2) for _ in range(200)]
    index = BM25Index(" ".join(text) for text in texts)
    for _ in range(50):
        query = rng.choices(WORDS, k=rng.randint(1, 12))
        expected = scores(texts, query)
        found = index.nearest(" ".join(query), 20)
        order = sorted(range(200), key=lambda i: -expected[i])[:20]
        assert [expected[i] for i in found] == pytest.approx([expected[i] for i in order], rel=1e-9)
        assert len(set(found)) == 20 and all(expected[i] > 0 for i in found)


def test_ties_are_in_order_and_texts_without_a_common_word_are_not_found() -> None:
    index = BM25Index(["seed leaf", "other", "leaf seed", "seed leaf"])
    assert index.nearest("a leaf", 9) == [0, 2, 3] and index.nearest("leaf", 2) == [0, 2]
    assert index.nearest("tree", 9) == index.nearest("leaf", 0) == index.nearest("", 9) == []


@pytest.mark.parametrize(
    "query",
    ['"', "AND", "seed OR", "NEAR(seed)", "text: seed", "seed*", "(seed", "-seed", "_", "²", "seed ^ \0"],
)
def test_a_query_is_words_and_nothing_else(query: str) -> None:
    index = BM25Index(["nothing", "the seed"])
    assert index.nearest(query, 9) == ([1] if "seed" in query else [])


def test_case_accents_and_endings_do_not_matter() -> None:
    index = BM25Index(["GRÖSSER gardens", "growing"])
    assert index.nearest("garden", 9) == index.nearest("größer grosser", 9) == [0]
    assert index.nearest("grows", 9) == [1]


def test_a_text_of_thousands_of_words_is_a_query() -> None:
    index = BM25Index(["seed", "leaf"])
    assert index.nearest(" ".join(f"w{n}" for n in range(5000)) + " leaf", 9) == [1]
