"""Examples of every objective are shown as they are, by real tokenizers."""

from functools import cache

import numpy as np
import pytest
from tests import masked_models

from seedbed.data.batch import Example
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.data.records import Record
from seedbed.data.shown import Shown, ShownToken, show_example, show_tokens
from seedbed.data.vocabulary import Vocabulary
from seedbed.models.network import family
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

TEXT = "The cat sat on the mat.\nA man walks, talks and is singing; naïve 漢字 dogs were walking (slowly)."
SENTINELS = [f"<extra_id_{i}>" for i in range(100)]
KINDS = ["bert", "roberta", "t5", "unigram", "bytes"]


@cache
def tokenizer(kind: str) -> Tokenizer:
    if kind in masked_models.NAMES:
        return masked_models.tokenizer(kind)
    special = family("t5").special if kind in ("t5", "unigram") else None
    made = {"t5": "bpe"}.get(kind, kind)  # without T5's normalizer, which loses line ends
    return train_tokenizer(masked_models.CORPUS, made, vocab_size=400, special=special)


def example_of(
    name: str, kind: str, *, seed: int = 1, shape: str | None = None, **settings: object
) -> Example:
    own, chosen = tokenizer(kind), OBJECTIVES.get(name)
    start = 0 if (shape or chosen.shapes[0]) == "encoder-decoder" else None
    made: Objective = chosen(Vocabulary.of(own, decoder_start_id=start), chosen.settings_class(**settings))
    ids = own.encode(TEXT)
    answer = np.array(own.encode(" and sang.")) if chosen.learns_from == "pairs" else None
    end = [] if own.eos_id is None or answer is not None else [own.eos_id]
    return made.example(Record(np.array([*ids, *end]), (0, 0), answer), seed)


def text_of(tokens: tuple[ShownToken, ...] | list[ShownToken]) -> str:
    return "".join(token.text for token in tokens if token.kind == "text")


def targets_of(shown: Shown) -> list[int]:
    return [token.id for token in shown.writes if token.role == "target"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_joined_are_the_decoded_text(kind: str) -> None:
    own = tokenizer(kind)
    ids = own.encode_document(TEXT)
    found = show_tokens(ids, own)
    assert text_of(found) == own.decode(ids) and [token.id for token in found] == ids
    if kind not in ("bert", "unigram"):  # which normalize
        assert text_of(found) == TEXT
    half = own.encode("漢")[:1]  # of a character is shown too
    assert text_of(show_tokens(half, own)) == own.decode(half)


@pytest.mark.parametrize("kind", KINDS)
def test_causal_is_one_text_whose_first_piece_alone_is_no_target(kind: str) -> None:
    example = example_of("causal", kind)
    shown = show_example(example, tokenizer(kind), in_place=False)
    assert not shown.reads and [token.role for token in shown.writes[:2]] == ["read", "target"]
    assert targets_of(shown) == example.targets.tolist()
    assert [token.id for token in shown.writes[:-1]] == example.input_ids.tolist()
    assert text_of(shown.writes) == tokenizer(kind).decode([p.id for p in shown.writes])


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_masked_says_what_stood_at_each_chosen_place(kind: str) -> None:
    own, seen = tokenizer(kind), set()
    for seed in range(40):
        example = example_of("masked", kind, seed=seed, rate=0.5)
        shown = show_example(example, own, in_place=True)
        assert not shown.writes and [p.id for p in shown.reads] == example.input_ids.tolist()
        assert example.target_index is not None
        blank = " " if kind == "bert" else ""  # WordPiece marks the inside of a word instead
        names = [own.token(i) for i in example.targets.tolist()]
        answers = [name if name.startswith("##") else blank + name for name in names]
        assert [p.answer for p in shown.reads if p.role != "read"] == answers
        assert [i for i, p in enumerate(shown.reads) if p.role != "read"] == example.target_index.tolist()
        for at, target in zip(example.target_index, example.targets, strict=True):
            read = int(example.input_ids[at])
            expected = "masked" if read == own.mask_id else "kept" if read == target else "replaced"
            assert shown.reads[at].role == expected
            seen.add(expected)
        assert [shown.reads[0].kind, shown.reads[-1].kind] == ["control", "control"]
        assert {t.kind for t in shown.reads if t.role == "masked"} == {"mask"}
    assert seen == {"masked", "kept", "replaced"}


def test_span_corruption_shares_the_text_out_between_encoder_and_decoder() -> None:
    own, example = tokenizer("t5"), example_of("span_corruption", "t5")
    shown = show_example(example, own, in_place=False)
    assert [p.id for p in shown.reads] == list(example.source_ids if example.source_ids is not None else [])
    assert {p.role for p in shown.reads} == {"read"} and targets_of(shown) == example.targets.tolist()
    gaps = [p.text for p in shown.reads if p.kind == "sentinel"]
    assert gaps and gaps == [p.text for p in shown.writes if p.kind == "sentinel"] == SENTINELS[: len(gaps)]
    assert shown.writes[0].role == "read"  # what the decoder begins with
    # The reference: each sentinel of the source replaced by what follows it in the target gives the text.
    filled, at = {}, ""
    for token in shown.writes[1:-1]:
        at = token.text if token.kind == "sentinel" else at
        filled.setdefault(at, []).extend([token.id] if token.kind != "sentinel" else [])
    ids = [i for p in shown.reads for i in (filled[p.text] if p.kind == "sentinel" else [p.id])]
    assert own.decode(ids) == TEXT


def test_denoising_writes_the_whole_text() -> None:
    own, example = tokenizer("bart"), example_of("denoising", "bart")
    shown = show_example(example, own, in_place=False)
    assert "mask" in {t.kind for t in shown.reads} and {p.answer for p in shown.reads} == {None}
    assert targets_of(shown) == example.targets.tolist() and text_of(shown.writes[1:]) == TEXT


@pytest.mark.parametrize("shape", ["decoder", "encoder-decoder"])
def test_completion_asks_for_the_answer_alone(shape: str) -> None:
    own, example = tokenizer("t5"), example_of("completion", "t5", shape=shape)
    shown = show_example(example, own, in_place=False)
    assert targets_of(shown) == example.targets.tolist()
    answered = [p for p in shown.writes if p.role == "target"]
    assert text_of(answered) == " and sang." and answered[-1].text == "</s>"
    assert text_of([p for p in (*shown.reads, *shown.writes[: -len(answered)]) if p.id]) == TEXT


def test_labels_of_places_and_of_the_row() -> None:
    own = tokenizer("bert")
    ids = np.array(own.encode_document("the cat sat"))
    tags = Example(ids, np.array([1, 0]), np.array([1, 3]))
    shown = show_example(tags, own, in_place=True, labels=["verb", "noun"])
    assert [(i, p.answer) for i, p in enumerate(shown.reads) if p.answer] == [(1, "noun"), (3, "verb")]
    whole = show_example(Example(ids, np.array([1])), own, in_place=True, labels=["bad", "good"])
    assert whole.label == "good" and {p.role for p in whole.reads} == {"read"}


def test_unknown_pieces_and_ids_that_are_no_token() -> None:
    own = tokenizer("bert")
    found = show_tokens([*own.encode("cat ☃"), own.vocab_size + 2], own)
    assert [t.kind for t in found[-2:]] == ["unknown", "text"] and found[-2].text == "[UNK]"
    assert found[-1].token == f"<id {own.vocab_size + 2}>" and found[-1].text == ""
