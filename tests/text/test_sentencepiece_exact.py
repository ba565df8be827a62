"""Texts of a SentencePiece model, split as its own library splits them."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as protobuf

from seedbed.base.errors import BundleError, UsageError
from seedbed.text.tokenizer import Tokenizer

SYMBOLS = ["<turn>", "☃", "▁▁", "xy", "①"]
WORDS = (
    *("the", "seed", "grows", "12345", "Gärten", "größe", "сад", "малый", "漢字と仮名", "カガ", "パピプ"),
    *("naïve", "one", "two", "three"),
)
HARD = (
    *"abc .,'!<>/0Å½①㌔İßﷺ…`¨ⅷ㍿￼か\xb4\uff21\uff1c\t\n\r\xa0\xad\u200b\u3000\ufeff\x00\x07\x85\u2028\ufdd5",
    "🦙",
    *("e\u0301", "e\u0302\u0301", "ﬁ\u0301", "か\u3099", "ｶﾞ", "ﾊﾟ", "ﾟ", "ᄀ\u1161\u11a8", "가", "\r\n"),
    *("....", ".....", "000000000", "oooo", "----------", "▁", "▁▁", "<0x41>", "</s>", "<unk>"),
)


def folder_of(path: Path, make: Any, **settings: Any) -> tuple[Path, Any]:
    """A folder with a trained model, and SentencePiece's own reading of it."""
    path.mkdir(exist_ok=True)
    lines = [" ".join((*WORDS[k:], *WORDS[:k])) for k in range(len(WORDS))] * 3
    rows = ["1000 0000 000 .... ... oooo ---- -- ガギグ <turn> a ☃ xy <b>"] * 40
    make(path / "tokenizer.model", lines=[*lines, *rows], vocab_size=420, **settings)
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    return path, sentencepiece.SentencePieceProcessor(model_file=str(path / "tokenizer.model"))


def odd_texts(model: Any, count: int, *, seed: int) -> list[str]:
    """Texts of words, of the model's entries, of its symbols, of spaces and of characters that change."""
    choose = random.Random(seed)
    entries = [model.id_to_piece(i) for i in range(model.get_piece_size())]

    def part() -> str:
        kind = choose.randrange(6)
        if kind == 0:
            return choose.choice(WORDS) + choose.choice(("", " "))
        if kind == 1:
            return choose.choice(entries).replace("▁", choose.choice((" ", "▁")))
        if kind == 2:
            return choose.choice(SYMBOLS)
        return " " * choose.randrange(1, 4) if kind == 3 else choose.choice(HARD)

    return ["".join(part() for _ in range(choose.randrange(choose.choice((3, 8, 24))))) for _ in range(count)]


@pytest.mark.parametrize("rules", ["nmt_nfkc", "identity"])
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_20000_texts_have_the_tokens_of_sentencepiece(
    kind: str, rules: str, train_sentencepiece: Any, tmp_path: Path
) -> None:
    for i, (symbols, has_bytes, keeps) in enumerate(
        itertools.product(([], SYMBOLS), (False, True), (False, True))
    ):
        folder, model = folder_of(
            tmp_path / str(i),
            train_sentencepiece,
            model_type=kind,
            normalization_rule_name=rules,
            user_defined_symbols=symbols,
            byte_fallback=has_bytes,
            add_dummy_prefix=not keeps,
            remove_extra_whitespaces=not keeps,
            character_coverage=0.999,
        )
        texts = odd_texts(model, 625, seed=i)
        tokenizer = Tokenizer.load(folder)
        found = tokenizer.encode_batch(texts)
        assert [t for t, ids in zip(texts, found, strict=True) if ids != model.encode(t)] == []
        tokenizer.save(tmp_path / "saved")
        again = Tokenizer.load(tmp_path / "saved")
        assert again.encode_batch(texts) == found and again.fingerprint == tokenizer.fingerprint
        for text, ids in zip(texts[:100], found, strict=False):
            whole, spans = tokenizer.encode_spans(text)
            assert [i for i, (start, end) in zip(whole, spans, strict=True) if end > start] == ids
            assert all(0 <= start <= end <= len(text) for start, end in spans)


def test_one_full_width_letter_is_found_and_its_place(train_sentencepiece: Any, tmp_path: Path) -> None:
    folder, model = folder_of(tmp_path, train_sentencepiece, normalization_rule_name="nmt_nfkc")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.unk_id not in tokenizer.encode("ｶﾞ")
    assert tokenizer.encode("ｶﾞ") == tokenizer.encode("ガ") == model.encode("ガ")
    ids, spans = tokenizer.encode_spans("the  ｶﾞ seed")
    assert spans[ids.index(tokenizer.vocabulary["ガ"])] == (5, 7)
    assert spans[0][0] == 0 and spans[-1][1] == len("the  ｶﾞ seed")


def test_a_symbol_at_the_beginning_keeps_its_blank(train_sentencepiece: Any, tmp_path: Path) -> None:
    folder, _ = folder_of(tmp_path, train_sentencepiece, model_type="bpe", user_defined_symbols=["<turn>"])
    tokenizer = Tokenizer.load(folder)
    assert [tokenizer.token(i) for i in tokenizer.encode("<turn>")] == ["▁", "<turn>"]


def test_a_long_text_has_one_mark_of_a_beginning(train_sentencepiece: Any, tmp_path: Path) -> None:
    folder, model = folder_of(tmp_path, train_sentencepiece, normalization_rule_name="nmt_nfkc")
    text = "the seed grows naïve " * 9_000
    assert Tokenizer.load(folder).encode(text) == model.encode(text)


def test_a_lone_surrogate_is_named(train_sentencepiece: Any, tmp_path: Path) -> None:
    folder, _ = folder_of(tmp_path, train_sentencepiece, normalization_rule_name="nmt_nfkc")
    with pytest.raises(UsageError, match=r"lone surrogate U\+D800 at character 2"):
        Tokenizer.load(folder).encode("a \ud800")


@pytest.mark.parametrize("value", [None, [], {"symbols": []}, 3, "settings"])
def test_damaged_settings_are_refused(value: object, train_sentencepiece: Any, tmp_path: Path) -> None:
    folder, _ = folder_of(tmp_path / "model", train_sentencepiece, normalization_rule_name="nmt_nfkc")
    Tokenizer.load(folder).save(tmp_path / "saved")
    file = tmp_path / "saved" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seedbed_sentencepiece": value}))
    with pytest.raises(BundleError, match="seedbed_sentencepiece needs dummy_prefix"):
        Tokenizer.load(tmp_path / "saved")


def test_equal_scores_of_a_bpe_model_are_refused_by_name(train_sentencepiece: Any, tmp_path: Path) -> None:
    folder, _ = folder_of(tmp_path, train_sentencepiece, model_type="bpe")
    file, model = folder / "tokenizer.model", protobuf.ModelProto()
    model.ParseFromString(file.read_bytes())
    pairs = [entry for entry in model.pieces if entry.type == 1 and len(entry.piece) > 1]
    pairs[3].score = pairs[0].score
    file.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=f"'{pairs[0].piece}' and '{pairs[3].piece}' the same score"):
        Tokenizer.load(folder)
