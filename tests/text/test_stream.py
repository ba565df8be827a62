"""Streams: the chunks joined are the text, and no chunk ends in half a character."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.text.stream import ByteStream, WindowStream
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

BYTES = train_tokenizer([], "bytes")
PAIRS = train_tokenizer(["🌱 ein Baum, 漢字 🌱 eine Saat 漢字"] * 4, "bpe", vocab_size=300)


@given(st.lists(st.integers(0, BYTES.vocab_size - 1)))
def test_any_bytes_stream_as_they_decode(ids: list[int]) -> None:
    stream = BYTES.stream()
    assert "".join(map(stream.push, ids)) + stream.flush() == BYTES.decode(ids)


@given(st.text())
def test_the_window_gives_what_the_bytes_give(text: str) -> None:
    ids = PAIRS.encode(text)
    window, direct = WindowStream(PAIRS.decode), ByteStream(PAIRS.token_bytes)
    chunks = [window.push(i) for i in ids]
    assert "".join(chunks) + window.flush() == text
    assert "".join(map(direct.push, ids)) + direct.flush() == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in chunk for chunk in chunks)


def test_a_character_appears_with_its_last_byte() -> None:
    stream = BYTES.stream()
    assert [stream.push(byte) for byte in "a🌱".encode()] == ["a", "", "", "", "🌱"]
    assert stream.push(0xF0) == ""
    assert stream.flush() == "\ufffd"
    window = WindowStream(BYTES.decode)
    assert [window.push(byte) for byte in "a🌱".encode()] == ["a", "", "", "", "🌱"]
    assert [window.push(0xF0), window.flush(), window.flush()] == ["", "\ufffd", ""]


@pytest.mark.parametrize("kind", ["llama", "t5", "gemma", "gpt2", "bert"])
def test_a_stream_that_continues_a_text_keeps_the_space_between_them(
    kind: str, legacy: dict[str, Path]
) -> None:
    """A SentencePiece decoder takes the space at a beginning away, and an answer is not one."""
    tokenizer = Tokenizer.load(legacy[kind])
    for before, behind in (("the seed", " in the garden"), ("the", "se"), ("a b", "  c"), ("", "the seed")):
        ids = tokenizer.encode(before)
        whole = tokenizer.encode(before + behind)
        if whole[: len(ids)] != ids:
            continue
        stream = tokenizer.stream()
        stream.begin_after(ids)
        text = "".join(map(stream.push, whole[len(ids) :])) + stream.flush()
        assert tokenizer.decode(ids) + text == tokenizer.decode(whole)
