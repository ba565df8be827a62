"""Text grows by whole characters, shows nothing of a stop text, and ends where single characters would."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.generation.answer import TextOutput
from seedbed.text.training import train_tokenizer


class Chunks:
    """A stream whose token i is the i-th of given chunks of text."""

    def __init__(self, chunks: list[str]) -> None:
        self.chunks = chunks

    def push(self, token_id: int) -> str:
        return self.chunks[token_id]

    def flush(self) -> str:
        return ""


def run(chunks: list[str], stop: tuple[str, ...]) -> tuple[list[str], bool]:
    """What was taken after each chunk, and whether a stop text ended it."""
    output = TextOutput(Chunks(chunks), stop)
    taken = []
    for i in range(len(chunks)):
        output.push(i)
        taken.append(output.take())
        if output.is_stopped:
            break
    output.finish()
    taken.append(output.take())
    assert "".join(taken) == output.text
    return taken, output.is_stopped


def by_characters(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """The definition: the text before the stop text that is complete first, the longest of several."""
    for end in range(1, len(text) + 1):
        ending = [s for s in stop if text[:end].endswith(s)]
        if ending:
            return text[: end - len(max(ending, key=len))], True
    return text, False


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    chunks=st.lists(st.text("abc", max_size=4), max_size=12),
    stop=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_stop_texts_end_the_text_wherever_tokens_are_cut(chunks: list[str], stop: tuple[str, ...]) -> None:
    taken, is_stopped = run(chunks, stop)
    assert ("".join(taken), is_stopped) == by_characters("".join(chunks), stop)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    chunks=st.lists(st.text("ab", max_size=3), max_size=12),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3).map(tuple),
)
def test_only_what_may_become_a_stop_text_is_held_back(chunks: list[str], stop: tuple[str, ...]) -> None:
    taken, _ = run(chunks, stop)
    shown, whole = "", by_characters("".join(chunks), stop)[0]
    for i, chunk in enumerate(taken[:-1]):
        shown += chunk
        arrived = "".join(chunks[: i + 1])
        held = arrived[len(shown) :]
        assert whole.startswith(shown)
        assert not held or any(s.startswith(held) or s in arrived for s in stop)


@pytest.mark.parametrize(
    ("chunks", "taken"),
    [
        (["Hel", "lo\n", "\nQ:", " no"], ["Hel", "lo", "", ""]),
        (["a\n", "b\n", "\n"], ["a", "\nb", "", ""]),
        (["a\n"], ["a", "\n"]),  # no stop text came of it after all
        (["\n\n"], ["", ""]),
    ],
)
def test_what_is_shown_when(chunks: list[str], taken: list[str]) -> None:
    assert run(chunks, ("\n\n",))[0] == taken


def test_a_character_over_several_tokens_is_never_split() -> None:
    tokenizer = train_tokenizer(["plain"], "bytes", vocab_size=257)
    text = "é 漢 👍🏽"
    output, taken = TextOutput(tokenizer.stream(), ("👍🏽",)), []
    for token in tokenizer.encode(text):
        output.push(token)
        taken.append(output.take())
    assert "".join(taken) == output.text == "é 漢 " and output.is_stopped
    assert not any("\ufffd" in chunk for chunk in taken)


def test_half_a_character_at_the_end_becomes_a_replacement_character() -> None:
    tokenizer = train_tokenizer(["plain"], "bytes", vocab_size=257)
    ids = tokenizer.encode("a漢")[:-1]
    output = TextOutput(tokenizer.stream())
    for token in ids:
        output.push(token)
    assert output.text == "a"
    output.finish()
    assert output.text == "a\ufffd" == tokenizer.decode(ids)
