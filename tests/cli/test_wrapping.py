"""Streamed text is wrapped between words, and keeps its characters."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from seedbed.cli.wrapping import StreamWrap


def wrapped(chunks: list[str], width: int) -> str:
    wrap = StreamWrap(width)
    return "".join([*map(wrap.push, chunks), wrap.flush()])


@given(
    chunks=st.lists(st.text(alphabet="ab 漢🌱\n\t\x1b", max_size=12), max_size=12), width=st.integers(2, 20)
)
def test_lines_fit_and_no_word_is_lost(chunks: list[str], width: int) -> None:
    shown = wrapped(chunks, width)
    assert all(cell_len(line) <= width for line in shown.split("\n"))
    text = "".join(chunks).replace("\x1b", "\ufffd")
    assert "".join(shown.split()) == "".join(text.split())
    if all(cell_len(word) <= width for word in text.split()):  # the chunks' ends change nothing
        assert wrapped(["".join(chunks)], width) == shown


def test_words_stay_whole_where_a_line_holds_them() -> None:
    assert wrapped(["the gar", "den is", " small"], 10) == "the garden\nis small"
    assert wrapped(["a  b\n\n  c"], 80) == "a  b\n\n  c"
    assert wrapped(["\n\n a\n", "\n b \n", "\n"], 80) == " a\n\n b"  # no empty lines around it
    assert wrapped(["seed abcdefghij"], 6) == "seed a\nbcdefg\nhij"


def test_a_word_is_shown_when_it_has_ended() -> None:
    wrap = StreamWrap(80)
    assert [wrap.push("the gar"), wrap.push("den "), wrap.flush()] == ["the", " garden", ""]
