"""Tokenizers: nothing is lost, names of special tokens stay text, and transformers reads what we save."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import decoders as core_decoders
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer

from seedbed.base.errors import BundleError, StoppedEarly, UsageError
from seedbed.text.library import library_errors
from seedbed.text.tokenizer import END_OF_TEXT, Tokenizer, blocks, byte_symbols
from seedbed.text.training import BYTE_KINDS, train_tokenizer

CORPUS = [
    "The garden is small. The seeds in the garden are small too.\n\n  def grow(seed):\n\treturn seed + 1\n",
    "Größe und Übermut: drei kleine Gärten. 漢字と仮名、漢字。 🌱🌱 naïve café",
] * 3
TRAINED = {kind: train_tokenizer(CORPUS, kind, vocab_size=320) for kind in BYTE_KINDS}
# Whatever UTF-8 can hold, and text that looks like ours.
TEXTS = st.one_of(st.text(), st.text(alphabet="thegarden .\n\t'ü漢🌱<|>ofx"))


@pytest.mark.parametrize("kind", BYTE_KINDS)
@given(text=TEXTS)
@example(text=END_OF_TEXT)
@example(text="<0x0A>Ġ▁ \x00\x7f\u00ad\u2028\r\n\ufffd\ufeff")
def test_nothing_is_lost(kind: str, text: str) -> None:
    tokenizer = TRAINED[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(i) or b"" for i in ids) == text.encode()
    stream = tokenizer.stream()
    assert "".join(map(stream.push, ids)) + stream.flush() == text
    assert tokenizer.special_ids.isdisjoint(ids)


@pytest.mark.parametrize("kind", BYTE_KINDS)
@given(text=TEXTS.filter(lambda text: len(text) > 1), size=st.integers(1, 8))
def test_the_blocks_of_a_long_text_give_the_tokens_of_the_whole(kind: str, text: str, size: int) -> None:
    tokenizer = TRAINED[kind]
    parts = list(blocks(text, block_characters=size))
    assert "".join(parts) == text
    assert all(re.search(r"\S\Z", a) and re.match(r"\s", b) for a, b in pairwise(parts))
    assert [i for part in parts for i in tokenizer.encode(part)] == tokenizer.encode(text)


def test_a_long_text_is_encoded_in_blocks_alone_and_among_others() -> None:
    text = " ".join(CORPUS) * 300
    assert len(list(blocks(text))) > 1
    for tokenizer in TRAINED.values():
        whole = tokenizer._core.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text) == whole
        short = [tokenizer.encode("a b"), [], tokenizer.encode("ü")]
        assert tokenizer.encode_batch(["a b", "", text, "ü"]) == [*short[:2], whole, short[2]]


@pytest.mark.parametrize("model_type", [None, "gpt2", "llama"])
@pytest.mark.parametrize("kind", BYTE_KINDS)
def test_transformers_loads_what_we_save(kind: str, model_type: str | None, tmp_path: Path) -> None:
    tokenizer = TRAINED[kind]
    tokenizer.save(tmp_path)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*CORPUS, "unseen Ωords  \n\n don't 12345 \t", "".join(map(chr, range(0x250)))):
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert theirs.eos_token_id == tokenizer.eos_id
    assert theirs(END_OF_TEXT, split_special_tokens=True)["input_ids"] == tokenizer.encode(END_OF_TEXT)
    assert theirs(END_OF_TEXT)["input_ids"] == [tokenizer.eos_id]  # a special token in theirs, text in ours


@pytest.mark.parametrize("kind", BYTE_KINDS)
def test_saved_and_loaded_is_the_same(kind: str, tmp_path: Path) -> None:
    tokenizer = TRAINED[kind]
    tokenizer.save(tmp_path / "deep" / "er")
    loaded = Tokenizer.load(tmp_path / "deep" / "er")
    names = ("fingerprint", "kind", "vocab_size", "eos_id", "bos_id", "pad_id", "unk_id", "special_ids")
    assert {n: getattr(loaded, n) for n in names} == {n: getattr(tokenizer, n) for n in names}
    assert loaded.kind == kind
    assert loaded.encode(END_OF_TEXT) == tokenizer.encode(END_OF_TEXT) != [tokenizer.eos_id]
    alone = Tokenizer.load(tmp_path / "deep" / "er" / "tokenizer.json")
    assert alone.encode(CORPUS[1]) == tokenizer.encode(CORPUS[1])


def word_piece() -> tokenizers.Tokenizer:
    """A foreign tokenizer as published ones are: marks for a word's inside, padding and truncation on."""
    names = ["[PAD]", "[UNK]", "</s>", "the", "gar", "##den", "s", "##eed"]
    core = tokenizers.Tokenizer(models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = core_decoders.WordPiece()
    core.add_special_tokens(["[PAD]", "</s>"])
    core.enable_padding(length=16)
    core.enable_truncation(4)
    return core


def test_a_foreign_tokenizer_keeps_its_own_settings(tmp_path: Path) -> None:
    config = {
        "pad_token": {"content": "[PAD]"},
        "unk_token": "[UNK]",
        "chat_template": "{{ x }}",
        "bos_token": None,
    }
    (tmp_path / "tokenizer.json").write_text(word_piece().to_str())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(tmp_path)
    special = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.eos_id, tokenizer.bos_id)
    assert (tokenizer.kind, *special) == ("wordpiece", 0, 1, 2, None)
    ids = tokenizer.encode("the garden the seed the garden")
    assert ids == [3, 4, 5, 3, 6, 7, 3, 4, 5]  # neither padded nor cut
    assert tokenizer.token_bytes(3) is None
    assert tokenizer.token(5) == "##den"
    stream = tokenizer.stream()
    assert "".join(stream.push(i) for i in [*ids[:3], 2, *ids[3:]]) + stream.flush() == tokenizer.decode(ids)
    tokenizer.save(tmp_path / "copy")
    assert Tokenizer.load(tmp_path / "copy").config == config


def test_lone_surrogates_are_refused_with_their_place() -> None:
    for tokenizer in TRAINED.values():
        with pytest.raises(UsageError, match=r"lone surrogate U\+D83C at character 3"):
            tokenizer.encode("abc\ud83c")
        with pytest.raises(UsageError, match=r"U\+DFFF at character 0"):
            tokenizer.encode_batch(["abc", "\udfff"])


@pytest.mark.parametrize("token_id", [-1, 257, 1 << 40])
def test_an_unknown_id_is_named(token_id: int) -> None:
    with pytest.raises(UsageError, match=f"no token has the id {token_id}; this vocabulary has 257 tokens"):
        TRAINED["bytes"].token(token_id)


def test_display_of_half_characters() -> None:
    assert TRAINED["bytes"].token(0xE2) == "<0xE2>"
    assert TRAINED["bytes"].decode([0xE2, 0x82]) == "\ufffd"


def damaged(change: dict[str, object]) -> str:
    return json.dumps(json.loads(TRAINED["bytes"]._core.to_str()) | change)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        damaged({})[:-30],
        damaged({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}),
        # The library panics on these, which is no Exception.
        damaged({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}),
        damaged(
            {
                "model": {
                    "type": "BPE",
                    "vocab": {"a": 0},
                    "merges": [["a", "a"]],
                    "continuing_subword_prefix": "ééé",
                }
            }
        ),
    ],
)
def test_a_bad_file_is_one_line(content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(
        BundleError, match=r"tokenizer\.json cannot be used: .*; use a tokenizer.json"
    ) as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)
    capfd.readouterr()


def test_a_file_that_panics_when_used_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(damaged({"pre_tokenizer": {"type": "FixedLength", "length": 0}}))
    with pytest.raises(BundleError, match="the tokenizer cannot be used: chunk size must be non-zero"):
        Tokenizer.load(file).encode("abc")
    capfd.readouterr()


def test_a_missing_or_wrong_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json does not exist"):
        Tokenizer.load(tmp_path)
    TRAINED["bytes"].save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(BundleError, match="contains a list, not an object"):
        Tokenizer.load(tmp_path)


def test_the_symbols_of_bytes_are_the_library_s() -> None:
    symbols = byte_symbols()
    assert sorted(symbols) == sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert [split.pre_tokenize_str(chr(b))[0][0] for b in range(128)] == symbols[:128]


def test_our_own_errors_pass_through_those_of_the_library() -> None:
    """A signal while shards were made ended with exit code 1, and blamed the tokenizer."""
    with pytest.raises(StoppedEarly, match=r"^stopped by SIGTERM$"), library_errors("the tokenizer"):
        raise StoppedEarly("stopped by SIGTERM")


@pytest.mark.parametrize("odd", [None, 5, b"x", {}, [[1], [2, 3]], iter(["a"])])
def test_what_is_no_text_is_refused(odd: Any) -> None:
    tokenizer = train_tokenizer(["a small garden"], "bpe", vocab_size=270)
    for call in (tokenizer.encode, tokenizer.encode_document, lambda text: tokenizer.encode_batch([text])):
        with pytest.raises(UsageError, match="is not a text"):
            call(odd)
