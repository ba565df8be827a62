"""Trained tokenizers: the same in every run, special tokens as published, and none in what a user writes."""

import itertools
import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from seedbed.base.errors import ConfigError
from seedbed.text import training
from seedbed.text.special_form import BERT, DECODER, MARIAN, ROBERTA, T5, SpecialForm, decoder_form
from seedbed.text.tokenizer import END_OF_TEXT, Tokenizer, blocks
from seedbed.text.training import BYTE_KINDS, KINDS, train_tokenizer

CORPUS = [
    "The garden is small. The seeds in the garden are small too; who sows them, and who waters the seeds?\n\n"
    "  def grow(seed):\n\treturn seed + 1\n",
    "Größe und Übermut: drei kleine Gärten. 漢字と仮名、漢字。 🌱🌱 naïve café, 12345 <s>text</s> [MASK]",
    "A seedling grows in the smallest of the gardens, the gardener sows and waters; 1, 2 and 12 seedlings.",
] * 3
FORMS = {"decoder": DECODER, "bert": BERT, "roberta": ROBERTA, "t5": T5, "marian": MARIAN}
PAIRS = [(form, kind) for form in FORMS for kind in KINDS if form != "decoder" or kind in BYTE_KINDS]
CONTROLS = (*BERT.tokens, *ROBERTA.tokens, *T5.tokens, END_OF_TEXT, "<extra_id_0>", "<extra_id_99>")
# White space and marks that some normalizer removes, joins or composes, and names of special tokens.
TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="thegardn .\n\t\r\x0b\x0c\x1c\x1f\x85\x01\xa0\u2028\u200b\u3000'üÜ\u0301▁漢🌱<|>/s[]12"),
    st.lists(st.sampled_from([*CONTROLS, " ", "a", "<", "s>", "\n"])).map("".join),
)


@cache
def trained(form: str, kind: str, vocab_size: int = 480) -> Tokenizer:
    return train_tokenizer(CORPUS, kind, vocab_size=vocab_size, special=FORMS[form])


def test_what_each_kind_has_beyond_the_bytes() -> None:
    made = {kind: train_tokenizer(CORPUS, kind, vocab_size=320) for kind in BYTE_KINDS}
    beyond_ascii = {c for text in CORPUS for c in text if not c.isascii()}
    assert made["bpe"].vocab_size == 320
    assert made["characters"].vocab_size == 257 + len(beyond_ascii)
    assert made["bytes"].vocab_size == 257
    assert made["bytes"].encode("Aü") == [65, *"ü".encode()]
    characters = "Aü漢🌱"
    known = sum(1 if c.isascii() or c in beyond_ascii else len(c.encode()) for c in characters)
    assert len(made["characters"].encode(characters)) == known
    assert [made["words"].token(i) for i in made["words"].encode("The garden")] == ["The", " garden"]
    for tokenizer in made.values():
        assert tokenizer.eos_id == tokenizer.vocab_size - 1
        assert tokenizer.token(tokenizer.eos_id) == END_OF_TEXT
        assert tokenizer.token_bytes(tokenizer.eos_id) is None


def test_the_most_frequent_entries_are_kept() -> None:
    two = train_tokenizer(["ü" * 3 + "ö" * 5 + "ä" * 3], "characters", vocab_size=256 + 2 + 1)
    assert [two.token(i) for i in (256, 257)] == ["ö", "ä"]  # equals in the order of their code points
    words = train_tokenizer(["no yes yes yes no no yes maybe"], "words", vocab_size=256 + 2 + 1)
    assert {words.token(i) for i in (256, 257)} == {" yes", " no"}


def test_training_is_the_same_in_every_process() -> None:
    """A hash map of the library or of Python orders nothing: many letters and words occur equally often."""
    code = (
        "from seedbed.text.training import KINDS, train_tokenizer\n"
        "words = [chr(97 + i % 26) + chr(945 + i % 7) + str(i) + chr(97 + i * i % 26) for i in range(900)]\n"
        "texts = [' '.join(words)]\n"
        "for kind in KINDS: print(train_tokenizer(texts, kind, vocab_size=450).fingerprint)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed, threads in (("0", "1"), ("1", "4"), ("2", "2"))
    ]
    assert runs[0] == runs[1] == runs[2] and len({*runs[0]}) == len(KINDS)


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_transformers_reads_the_same_tokens(form: str, kind: str, tmp_path: Path) -> None:
    tokenizer = trained(form, kind)
    tokenizer.save(tmp_path)
    model_type = {"decoder": "gpt2"}.get(form, form)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint and again.kind == kind
    assert len(theirs) == tokenizer.vocab_size <= 480
    for text in (*CORPUS, "unseen Ωords  \n\n don't 12345 \t", "", " ", " </s> [MASK]<mask>", "\x00\x01é́"):
        ids = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert tokenizer.encode(text) == ids
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
        whole = theirs(text, split_special_tokens=True)["input_ids"]
        assert tokenizer.encode_document(text) == again.encode_document(text) == whole
    for name in ("bos", "eos", "pad", "unk", "mask", "cls", "sep"):
        assert getattr(again, f"{name}_id") == getattr(theirs, f"{name}_token_id"), name
    assert tokenizer.special_ids == frozenset(theirs.all_special_ids)
    segments = theirs("a", "b").get("token_type_ids", [])
    assert (0 in segments and 1 in segments) == (form == "bert")


IDS = {
    "decoder": {"eos": -1},
    "bert": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
    "roberta": {"bos": 0, "cls": 0, "pad": 1, "eos": 2, "sep": 2, "unk": 3, "mask": 4},
    "t5": {"pad": 0, "eos": 1, "unk": 2},
    "marian": {"pad": 0, "eos": 1, "unk": 2},
}
AROUND = {
    "decoder": ("{}", "{} {}"),
    "bert": ("2 {} 3", "2 {} 3 {} 3"),
    "roberta": ("0 {} 2", "0 {} 2 2 {} 2"),
    "t5": ("{} 1", "{} 1 {} 1"),
    "marian": ("{} 1", "{} 1 {} 1"),
}


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_the_special_tokens_have_their_published_places(form: str, kind: str) -> None:
    tokenizer = trained(form, kind)
    size = tokenizer.vocab_size
    for role in ("bos", "eos", "pad", "unk", "mask", "cls", "sep"):
        place = IDS[form].get(role)
        assert getattr(tokenizer, f"{role}_id") == (None if place is None else place % size), role
    assert tokenizer.sentinel_ids == (tuple(range(size - 1, size - 101, -1)) if form == "t5" else ())
    names = {i: name for name, i in tokenizer.vocabulary.items()}
    assert sorted(names) == list(range(size))
    assert names[size - 1] == {"t5": "<extra_id_0>", "decoder": END_OF_TEXT}.get(form, names[size - 1])
    a, b = ([str(i) for i in tokenizer.encode(text)] for text in ("the seed", "garden"))
    one, two = AROUND[form]
    assert tokenizer.encode_document("the seed") == [int(i) for i in one.format(" ".join(a)).split()]
    pair = tokenizer._core.encode("the seed", "garden")
    assert pair.ids == [int(i) for i in two.format(" ".join(a), " ".join(b)).split()]
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert form == "decoder" or pair.type_ids == (segments if form == "bert" else [0] * len(pair.ids))


@pytest.mark.parametrize(
    ("form", "before", "special", "after"),
    [
        ("roberta", "the", "<mask>", " seed"),  # the published mask takes the space before it
        ("bert", "the", "[MASK]", "seed"),
        ("t5", "The", "<extra_id_0>", "garden"),
    ],
)
def test_masks_and_sentinels_are_found_where_they_are_meant(
    form: str, before: str, special: str, after: str, tmp_path: Path
) -> None:
    tokenizer = trained(form, FORMS[form].kind)
    tokenizer.save(tmp_path)
    found = AutoTokenizer.from_pretrained(tmp_path)(
        f"{before} {special} {after.strip()}", add_special_tokens=False
    )["input_ids"]
    assert found == [*tokenizer.encode(before), tokenizer.vocabulary[special], *tokenizer.encode(after)]


@pytest.mark.parametrize(("form", "kind"), PAIRS)
@given(text=TEXTS)
@example(text="".join(CONTROLS))
@example(text=" ".join(CONTROLS))
@example(text="<s>")
@example(text="</s>")
@example(text="<unk>")
def test_no_text_becomes_a_special_token(form: str, kind: str, text: str) -> None:
    tokenizer = trained(form, kind)
    ids = tokenizer.encode(text)
    unknown = () if kind in BYTE_KINDS else (tokenizer.unk_id,)
    assert (tokenizer.special_ids - {*unknown}).isdisjoint(ids)
    assert len(tokenizer.begins_word) == tokenizer.vocab_size
    if kind in BYTE_KINDS:
        assert tokenizer.decode(ids) == text


def test_names_of_special_tokens_that_are_text_decode_again() -> None:
    """Their letters are in the corpus."""
    decoded = trained("t5", "unigram").decode(trained("t5", "unigram").encode("<s>text</s> is [MASK]"))
    assert decoded == "<s>text</s> is [MASK]"
    decoded = trained("bert", "wordpiece").decode(
        trained("bert", "wordpiece").encode("<s>Text</s> is [MASK]")
    )
    assert decoded.replace(" ", "") == "<s>text</s>is[mask]"


@pytest.mark.parametrize(("form", "kind"), [("bert", "wordpiece"), ("t5", "unigram"), ("t5", "bytes")])
@given(text=TEXTS.filter(lambda text: len(text) > 1), size=st.integers(1, 8))
@example(text="seed seed", size=2)
@example(text="se\x0bed \x0b seed", size=1)
@example(text="a\u3000\u3000 b \u0301c", size=1)
def test_the_blocks_of_a_long_text_give_the_tokens_of_the_whole(
    form: str, kind: str, text: str, size: int
) -> None:
    tokenizer = trained(form, kind)
    parts = list(blocks(text, block_characters=size))
    assert "".join(parts) == text
    assert [i for part in parts for i in tokenizer.encode(part)] == tokenizer.encode(text)


@pytest.mark.parametrize(("form", "kind"), [("bert", "wordpiece"), ("t5", "unigram")])
def test_a_long_text_is_encoded_in_blocks_alone_and_among_others(form: str, kind: str) -> None:
    tokenizer, text = trained(form, kind), "\x0b ".join(CORPUS) * 300
    assert len(list(blocks(text))) > 1
    whole = tokenizer._core.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode_batch(["a b", "", text]) == [tokenizer.encode("a b"), [], whole]
    assert train_tokenizer([text], kind, vocab_size=480).vocab_size <= 480


def test_where_words_begin() -> None:
    for form, kind in (("bert", "wordpiece"), ("t5", "unigram")):
        tokenizer = trained(form, kind)
        ids = tokenizer.encode("the smallest gardens, seeds")
        words = Counter(tokenizer.begins_word[ids].tolist())[True]
        assert words == (5 if kind == "wordpiece" else 4)  # the comma is a word of BERT's


def merged_pairs(words: dict[str, int], letters: list[str], num_entries: int) -> list[str]:
    """WordPiece's entries by the simplest loop: the most frequent pair, the lowest ids of equals."""
    names = list(letters)
    split = {word: [word[0], *(f"##{c}" for c in word[1:])] for word in words}
    while len(names) < num_entries:
        counts: Counter[tuple[str, str]] = Counter()
        for word, parts in split.items():
            for pair in itertools.pairwise(parts):
                counts[pair] += words[word]
        ranked = sorted(counts, key=lambda p: (-counts[p], names.index(p[0]), names.index(p[1])))
        if not ranked or counts[ranked[0]] < 2:
            break
        left, right = ranked[0]
        made = left + right.removeprefix("##")
        names += [made] if made not in names else []
        for parts in split.values():
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == (left, right):
                    parts[at : at + 2] = [made]
                at += 1
    return names


def test_word_pieces_are_merged_by_their_counts() -> None:
    tokenizer = trained("bert", "wordpiece", 150)
    core = tokenizer._core
    words = Counter(
        word
        for text in CORPUS
        for word, _ in core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text))
    )
    counts = Counter(c for word in words.elements() for c in word)
    marks = [c for c in counts if unicodedata.category(c)[0] == "P" or (c.isascii() and not c.isalnum())]
    inside = {c for c in counts if c not in marks and not "\u4e00" <= c <= "\u9fff"}
    frequent = sorted(counts, key=lambda c: (-counts[c], c))
    sizes = list(itertools.accumulate(1 + (c in inside) for c in frequent))
    kept = {c for c, size in zip(frequent, sizes, strict=True) if size <= 145 // 2}
    assert len(kept) < len(frequent)
    letters = [*sorted(kept), *(f"##{c}" for c in sorted(kept.intersection(inside)))]
    names = merged_pairs({w: n for w, n in words.items() if kept.issuperset(w)}, letters, 145)
    assert [tokenizer.token(i) for i in range(5, tokenizer.vocab_size)] == names and len(names) > 130


def test_a_word_that_occurs_once_is_not_an_entry() -> None:
    for kind in ("wordpiece", "unigram"):
        tokenizer = train_tokenizer(["seed seed tree"], kind, vocab_size=400)
        assert len(tokenizer.encode("seed")) == 1 < len(tokenizer.encode("tree"))


def test_the_rarest_words_are_forgotten_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MAX_WORDS", 100)
    texts = [f"seedling {i} garden {i + 1} seedling x{i}y" for i in range(400)]
    counts = training._count_words(text.split() for text in texts)
    assert len(counts) <= 100 and (counts["seedling"], counts["garden"]) == (800, 400)
    for kind in ("wordpiece", "unigram"):
        tokenizer = train_tokenizer(texts, kind, vocab_size=400)
        assert len(tokenizer.encode("seedling")) == len(tokenizer.encode("garden")) == 1


def test_letters_beyond_half_of_the_vocabulary_are_unknown() -> None:
    for kind, form in (("wordpiece", BERT), ("unigram", T5)):
        tokenizer = train_tokenizer(["aaaa aaa bb bb c d e f"], kind, vocab_size=form.num_tokens + 8)
        assert tokenizer.unk_id not in tokenizer.encode("a aa bb b ab")
        assert tokenizer.unk_id in tokenizer.encode("e") and tokenizer.unk_id in tokenizer.encode("漢")
        assert tokenizer.decode(tokenizer.encode("a b")) == "a b"
        assert tokenizer.vocab_size <= form.num_tokens + 8


@pytest.mark.parametrize("texts", [[], [""], [" \n\t", "\x0b"], ["a"]])
@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_texts_with_hardly_a_word_train_what_they_can(form: str, kind: str, texts: list[str]) -> None:
    tokenizer = train_tokenizer(texts, kind, vocab_size=4096, special=FORMS[form])
    assert tokenizer.vocab_size < 480
    ids = tokenizer.encode("a b")
    if kind in BYTE_KINDS:
        assert tokenizer.decode(ids) == "a b"
    else:
        assert (tokenizer.unk_id in ids) and (ids.count(tokenizer.unk_id) == 1) == (texts == ["a"])
    assert len(tokenizer.sentinel_ids) == FORMS[form].num_sentinels


def test_settings_that_cannot_be() -> None:
    with pytest.raises(
        ConfigError, match=r"tokenizer\.kind='wordz' is not known; allowed: bpe, wordpiece, unigram, char"
    ):
        train_tokenizer(CORPUS, "wordz")
    with pytest.raises(ConfigError, match=r"kind='unigram' needs a token for unknown text.*allowed: bpe"):
        train_tokenizer(CORPUS, "unigram", special=DECODER)
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size=256 cannot hold 256 bytes and 1 special"):
        train_tokenizer(CORPUS, "bpe", vocab_size=256)
    with pytest.raises(ConfigError, match=r"vocab_size=9{21} is not allowed: give a number below 2\^31"):
        train_tokenizer(CORPUS, "bpe", vocab_size=10**21 - 1)
    assert train_tokenizer(CORPUS, "bpe", vocab_size=257).vocab_size == 257


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_the_least_vocabulary_is_named_and_does(form: str, kind: str) -> None:
    with pytest.raises(ConfigError, match="choose at least") as caught:
        train_tokenizer(CORPUS, kind, vocab_size=3, special=FORMS[form])
    least = int(str(caught.value).split()[-1])
    assert least == (256 if kind in BYTE_KINDS else 4) + FORMS[form].num_tokens
    made = train_tokenizer(CORPUS, kind, vocab_size=least, special=FORMS[form])
    assert made.vocab_size <= least and made.encode("e")
    with pytest.raises(ConfigError, match=f"at least {least}$"):
        train_tokenizer(CORPUS, kind, vocab_size=least - 1, special=FORMS[form])


def test_the_kind_is_the_form_s_and_the_form_the_kind_s() -> None:
    cases: list[tuple[dict[str, Any], str, SpecialForm]] = [
        ({}, "bpe", DECODER),
        ({"kind": "wordpiece"}, "wordpiece", BERT),
        ({"kind": "unigram"}, "unigram", T5),
        ({"kind": "words"}, "words", DECODER),
        ({"special": T5}, "unigram", T5),
        ({"special": ROBERTA}, "bpe", ROBERTA),
        ({"special": T5, "kind": "bpe"}, "bpe", T5),
        ({"special": BERT, "kind": "unigram"}, "unigram", BERT),
    ]
    for settings, kind, form in cases:
        made = train_tokenizer(CORPUS, vocab_size=400, **settings)
        assert made.kind == kind and len(made.special_ids) == form.num_tokens


def test_without_special_tokens_nothing_ends_a_document() -> None:
    tokenizer = train_tokenizer(CORPUS, "bytes", special=decoder_form())
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.special_ids) == (256, None, frozenset())


def test_a_text_is_normalized_as_t5_s_are() -> None:
    """Against SentencePiece's own table, but for its full-width tilde, one mark, and newer letters."""
    reference = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc")
    normalizer = trained("t5", "unigram")._core.normalizer
    assert isinstance(normalizer, tokenizers.normalizers.Normalizer)
    others = {0xFF5E, 0x0344, 0x32FF, *range(0xA7F1, 0xA7F5), 0xAB69, *range(0xD800, 0xE000)}
    for code in {*range(1, 0x10000)} - others:
        text = f" a{chr(code)} {chr(code)}b  c "
        assert normalizer.normalize_str(text) == reference.normalize(text), hex(code)
