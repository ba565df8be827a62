"""What is held out: a share of the bytes, the same text on one side, whatever the files are."""

import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.data.corpora import Document
from seedbed.data.corpus import Corpus
from seedbed.data.prepare import prepare_shards
from seedbed.data.settings import DataSettings
from seedbed.data.split import LEAST, MOST, content_hash, find_split, stretch_characters, stretches
from seedbed.text.training import train_tokenizer

ENDS = st.sampled_from(["\n\n", "\r\n\r\n", "\n \n\n", "\n", "\r\n", "\r", " ", ""])


@st.composite
def corpora(draw: st.DrawFn) -> list[str]:
    """Few or many documents, tiny or long, with paragraphs, with lines, in one line, with Chinese letters."""
    texts, alphabets = set(), st.sampled_from(["ab cd", "漢字かな ", "acgt"])
    for _ in range(draw(st.integers(1, 6))):
        seed, end = draw(st.integers(0, 99)), draw(ENDS)
        size, count = draw(st.sampled_from([3, 40, 700])), draw(st.sampled_from([1, 30, 900]))
        letters = random.Random(seed).choices(draw(alphabets), k=size * count)
        texts.add(end.join("".join(letters[i : i + size]) for i in range(0, len(letters), size)))
    tiny = draw(st.integers(0, 200))
    return sorted(texts | {f"Note {n} of {n * n}." for n in range(tiny)}, key=len)


def measured(texts: list[str], fraction: float) -> tuple[list[list[tuple[Document, bool]]], float, int]:
    """The parts of each text, the held-out share of the bytes, and the bytes of the largest stretch."""
    documents = [Document(text, "x") for text in texts]
    split = find_split(lambda: documents, fraction, cuts=True)
    assert split is not None
    parts = [list(split.parts(document)) for document in documents]
    sizes = [(len(part.text.encode()), held) for each in parts for part, held in each]
    largest = 0
    for document in documents:
        start = 0
        for end, _ in stretches(document, split.stretch_characters):
            largest, start = max(largest, len(document.text[start:end].encode())), end
    return parts, sum(size for size, held in sizes if held) / sum(size for size, _ in sizes), largest


@settings(max_examples=25, deadline=None)
@given(texts=corpora(), fraction=st.sampled_from([0.01, 0.05, 0.3]))
def test_the_share_is_kept_within_a_tenth_or_one_stretch(texts: list[str], fraction: float) -> None:
    if find_split(lambda: [Document(text, "x") for text in texts], fraction, cuts=True) is None:
        assert len(texts) == 1 and len(texts[0]) <= 16  # nothing to hold out
        return
    parts, share, largest = measured(texts, fraction)
    total = sum(len(text.encode()) for text in texts)
    assert abs(share - fraction) <= max(fraction / 10, largest / total)
    assert 0 < share < 1
    for text, each in zip(texts, parts, strict=True):
        assert "".join(part.text for part, _ in each) == text
        assert [part.ends for part, _ in each] == [False] * (len(each) - 1) + [True]
        for (one, held), (two, held_next) in pairwise(each):
            assert held != held_next  # neighbours on one side are joined
            assert not (one.text.endswith("\r") and two.text.startswith("\n"))


@settings(max_examples=12, deadline=None)
@given(texts=corpora())
def test_no_stretch_is_on_both_sides(texts: list[str]) -> None:
    documents = [Document(text, "x") for text in ["a", "b", *texts, *texts[:3], "".join(texts)]]
    split = find_split(lambda: documents, 0.2, cuts=True)
    assert split is not None
    sides: dict[bool, set[str]] = {True: set(), False: set()}
    for document in documents:
        start = 0
        for end, hashed in stretches(document, split.stretch_characters):
            sides[split.holds_out(hashed)].add(document.text[start:end])
            start = end
    assert not sides[True] & sides[False]
    # Nor does the order of the documents change anything.
    again = find_split(lambda: documents[::-1], 0.2, cuts=True)
    assert again == split


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\n \t\n\n"])
def test_a_text_is_cut_at_blank_lines_where_it_has_any(end: str) -> None:
    text = end.join(f"Paragraph {n}\nof {n} words. " * (n % 9 + 1) for n in range(400))
    cuts = [cut for cut, _ in stretches(Document(text, "x"), 1024)]
    assert len(cuts) > 30 and all(text[:cut].endswith(end) for cut in cuts[:-1])
    assert all(b - a <= 1024 for a, b in zip([0, *cuts], cuts, strict=False))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " ", ""])
def test_else_after_lines_else_before_blanks_else_anywhere(end: str) -> None:
    text = end.join([" word" if end.isspace() and end != " " else "word"] * 2000)
    cuts = [cut for cut, _ in stretches(Document(text, "x"), 300)]
    if end == " ":
        assert all(text[cut] == " " and text[cut - 1] == "d" for cut in cuts[:-1])
    elif end:
        assert all(text[:cut].endswith(end) for cut in cuts[:-1])
    else:
        assert cuts == [*range(300, len(text), 300), len(text)]


def test_texts_that_share_a_passage_are_cut_alike_in_it() -> None:
    passage = "\n\n".join(f"Paragraph {n} of {n * n % 97}." * 5 for n in range(600))
    alone, behind = Document(passage, "a"), Document("A licence.\n\nAnd a note.\n\n" + passage, "b")
    hashes = [{hashed for _, hashed in stretches(document, 1024)} for document in (alone, behind)]
    assert len(hashes[0] & hashes[1]) > 0.9 * len(hashes[0])


def test_five_files_of_which_one_is_a_licence() -> None:
    """The issue's folder: 23 MB, and a note of 500 bytes that was all that was held out."""
    rng = random.Random(0)
    words = [f"word{n}" for n in range(3000)]
    book = "\n\n".join(" ".join(rng.choices(words, k=60)) for _ in range(8000))
    texts = ["Licence. " * 55, book, book[: len(book) // 9].upper(), book[::-1], "A note."]
    _, share, _ = measured(texts, 0.05)
    assert 0.045 <= share <= 0.055
    _, alone, _ = measured([book], 0.05)
    assert 0.045 <= alone <= 0.055


def test_a_short_text_alone_is_cut_too() -> None:
    parts, share, _ = measured(["One line.\nAnd one more line that is longer.\n"], 0.05)
    assert len(parts[0]) == 2 and 0 < share < 1
    assert find_split(lambda: [Document("short", "x")], 0.05, cuts=True) is None
    assert find_split(lambda: [Document("abc\n" * 50_000, "x")], 0.05, cuts=True) is not None


def test_a_passage_repeated_everywhere_stays_for_training() -> None:
    rng = random.Random(0)
    footer = "All rights reserved. " * 49  # one stretch
    texts = [t for n in range(300) for t in (f"{rng.random()} " * 50, footer)]
    _, share, _ = measured(texts, 0.05)
    assert 0.045 <= share <= 0.055


def test_the_size_of_a_stretch() -> None:
    assert stretch_characters(0.05, 10**4) == LEAST and stretch_characters(0.05, 10**10) == MOST
    for characters in (10**6, 3 * 10**6, 10**7):
        size = stretch_characters(0.05, characters)
        assert 20 <= 0.05 * characters / size < 40 and size & (size - 1) == 0


def test_records_are_never_cut_and_a_label_keeps_its_last_one() -> None:
    labels = ["often"] * 300 + [f"once {n}" for n in range(20)]
    records = [Document("text " * (n % 90 + 1) + str(n), "x", label) for n, label in enumerate(labels)]
    for fraction in (0.05, 0.5, 0.9):
        last = {
            label: max(content_hash(r.text) for r in records if r.answer == label) for label in set(labels)
        }
        split = find_split(lambda: records, fraction, cuts=False, last=last.values())
        assert split is not None
        held = [record for record in records if split.holds_out(content_hash(record.text))]
        assert {record.answer for record in records if record not in held} == set(labels)
        sizes = [sum(len(r.text) + len(r.answer or "") for r in each) for each in (held, records)]
        assert abs(sizes[0] / sizes[1] - fraction) < 0.1 * fraction
        assert [list(split.parts(record)) for record in held] == [[(record, True)] for record in held]
    one_each = records[-2:]
    assert (
        find_split(lambda: one_each, 0.5, cuts=False, last=[content_hash(r.text) for r in one_each]) is None
    )


def test_what_is_read_twice_is_read_anew(tmp_path: Path) -> None:
    count = []

    def read() -> Iterator[Document]:
        count.append(1)
        yield from (Document(f"Text {n} {'a' * n}", "x") for n in range(50))

    assert find_split(read, 0.1, cuts=True) is not None and len(count) == 1  # nothing to cut


@pytest.mark.parametrize(
    ("learns_from", "twin"),
    [
        ("labels", lambda n, k: {"text": f"text {n}" + " \n"[:k], "label": "ab"[(n + k) % 2]}),
        ("pairs", lambda n, k: {"prompt": f"question {n}", "completion": f"answer {k}"}),
        (
            "conversations",
            lambda n, k: {
                "messages": [
                    dict(sorted({"role": "user", "content": f"question {n}"}.items(), reverse=k == 1)),
                    {"role": "assistant", "content": f"answer {k}"},
                ]
            },
        ),
    ],
)
def test_records_with_one_input_are_on_one_side(learns_from: Any, twin: Callable, tmp_path: Path) -> None:
    path = tmp_path / "twins.jsonl"
    path.write_text("".join(json.dumps(twin(n, k)) + "\n" for k in range(3) for n in range(300)))
    corpus = Corpus(DataSettings(train=str(path)), learns_from=learns_from)
    sides: tuple[set[str], set[str]] = (set(), set())
    for document, validates in corpus.documents():
        sides[validates].add(" ".join(corpus.key(document).split()))
    assert len(sides[0]) + len(sides[1]) == 300 and len(sides[1]) >= 10


def test_what_the_training_part_repeats_is_warned_of(tmp_path: Path) -> None:
    rng = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    paragraphs = [" ".join("".join(rng.choices(letters, k=6)) for _ in range(12)) for _ in range(3000)]
    for texts, least in (([rng.choice(paragraphs[:300]) for _ in range(3000)], 0.9), (paragraphs, 0.0)):
        (tmp_path / "text.txt").write_text("\n\n".join(texts))
        settings = DataSettings(train=str(tmp_path / "text.txt"))
        facts = prepare_shards(settings, train_tokenizer(texts[:9], "bytes"), tmp_path / "out").facts()
        assert facts["overlap"] >= least
        assert ("are also in the training part" in facts["warning"]) == (least > 0)
