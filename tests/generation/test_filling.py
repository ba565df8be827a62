"""Blanks are filled as `transformers`' own pipeline fills them, and what cannot be filled says so."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import tokenizers
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

import seedbed
from seedbed.base.errors import BundleError, UsageError
from seedbed.generation import filling, scoring
from seedbed.generation.filling import Filled
from seedbed.generation.language_model import LanguageModel
from seedbed.models.family import Network
from seedbed.nn.config import HeadConfig
from seedbed.text.blanks import MarkedBlanks
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

TEXTS = (
    "The ___ sat on the mat.",
    "___ cat sat",
    "A man ___",
    "___",
    "The ___ sat on ___ mat, ___.",
    "Dogs were walk___ (___), and it doesn't matter: the weather in Paris was cold.",
    "☃ ___ ___ mat",
)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lm(kind: str, masked: ModuleType) -> Any:
    return masked.model(kind)


@pytest.fixture(scope="module")
def theirs(kind: str, masked: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """The pipeline of `transformers` over the bundle that we save, every token a candidate."""
    folder = tmp_path_factory.mktemp("masked") / kind
    masked.model(kind).save(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")

    def answers(text: str) -> list[list[dict[str, Any]]]:
        found = fill(text.replace("___", masked.NAMES[kind]["mask"]), top_k=model.config.vocab_size)
        return found if isinstance(found[0], list) else [found]

    return answers


def test_candidates_are_those_of_the_pipeline_but_for_control_tokens(
    lm: Any, theirs: Callable[..., Any]
) -> None:
    num_tokens, special = lm.tokenizer.vocab_size, lm.tokenizer.special_ids
    for text, filled in zip(TEXTS, lm.fill(TEXTS, num_candidates=1000), strict=True):
        expected = theirs(text)
        assert len(filled.blanks) == len(expected) == text.count("___")
        for ours, proposed in zip(filled.blanks, expected, strict=True):
            assert special < {c["token"] for c in proposed}  # the pipeline proposes [SEP] too
            kept = [c for c in proposed if c["token"] not in special and c["token"] < num_tokens]
            assert [c.token_ids for c in ours] == [[c["token"]] for c in kept]
            assert [c.probability for c in ours] == pytest.approx([c["score"] for c in kept], abs=1e-5)
            assert [c.text for c in ours] == [c["token_str"] for c in kept]


def test_a_filled_text_is_the_pipelines_where_it_keeps_the_text(lm: Any, theirs: Callable[..., Any]) -> None:
    text, encoder = "the ___ sat on the mat", lm._filler.encoder
    for candidate in theirs(text)[0]:
        if candidate["token"] in encoder.fillers:
            assert encoder.fill(encoder.encode(text), [[candidate["token"]]]) == candidate["sequence"]


@pytest.mark.parametrize(
    ("kind", "text", "tokens", "expected"),
    [
        ("bert", "The ___ (___) walk___ ON", ["cat", "sat", "##s"], "The cat (sat) walks ON"),
        ("bert", "___, the ___ ___", ["man", "walk", "##s"], "man, the walks"),
        ("bert", "  The  ___\n sat___", ["cat", "."], "  The  cat\n sat."),
        ("bert", "[SEP] ____ [MASK]", ["cat", "mat"], "[SEP] cat mat"),
        ("roberta", "The ___ (___) walk___ ON", ["Ġcat", "at", "s"], "The cat (at) walks ON"),
        ("roberta", "___, the ___ ___", ["Ġman", "Ġwalk", "s"], "man, the walks"),
        ("roberta", "</s> ____ <mask>", ["Ġcat", "Ġmat"], "</s> cat mat"),
        ("roberta", "café ___", ["©"], "café\ufffd"),
        ("roberta", "caf___ ___", ["Ã", "©"], "caf\ufffd\ufffd"),
    ],
)
def test_what_a_user_wrote_stays(
    kind: str, text: str, tokens: list[str], expected: str, masked: ModuleType
) -> None:
    encoder, vocabulary = masked.model(kind)._filler.encoder, masked.tokenizer(kind).vocabulary
    assert encoder.fill(encoder.encode(text), [[vocabulary[token]] for token in tokens]) == expected


def test_a_control_string_of_the_users_is_text(kind: str, lm: Any, masked: ModuleType) -> None:
    names, vocabulary = masked.NAMES[kind], lm.tokenizer.vocabulary
    ids = lm._filler.encoder.encode(f"{names['sep']} ___ {names['cls']}{names['mask']}").ids
    assert [ids.count(vocabulary[names[n]]) for n in ("cls", "sep", "mask")] == [1, 1, 2]
    assert (ids[0], ids[-1]) == (vocabulary[names["cls"]], vocabulary[names["sep"]])


def test_texts_together_give_what_each_gives_alone(lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    together = lm.fill(TEXTS)
    monkeypatch.setattr(scoring, "PASS_TOKENS", 12)
    monkeypatch.setattr(filling, "LOGIT_NUMBERS", 1)
    for text, one, small in zip(TEXTS, together, lm.fill(TEXTS), strict=True):
        alone = lm.fill(text)
        assert isinstance(alone, Filled) and len(alone.blanks[0]) == 5
        assert one.text == small.text == alone.text and "___" not in one.text
        for blanks in zip(one.blanks, small.blanks, alone.blanks, strict=True):
            for same in zip(*blanks, strict=True):
                assert len({c.text for c in same}) == 1
                assert max(c.probability for c in same) - min(c.probability for c in same) < 1e-6
    assert lm.fill([]) == [] and isinstance(lm.fill([TEXTS[0]]), list)


def test_what_cannot_be_filled_is_told_in_one_line(kind: str, lm: Any, gpt2: Network) -> None:
    plain = train_tokenizer(["text"], "bytes", vocab_size=257)
    large = seedbed.new(replace(lm.config, vocab_size=400), tokenizer=plain)
    headless = seedbed.new(replace(lm.config, head=HeadConfig(kind="none")), tokenizer=lm.tokenizer)
    mask = {"bert": r"\[MASK\]", "roberta": "<mask>"}[kind]
    for attempt, words in (
        (lambda: lm.fill("a __ text"), f"'a __ text' has no blank to fill; write ___ or {mask} where"),
        (lambda: lm.fill("___ the" * 40), "the context holds 40"),
        (lambda: lm.fill("\ud800 ___"), "lone surrogate"),
        (lambda: lm.fill([[1, 2]]), "is not a text; give text with blanks"),
        (lambda: lm.fill("___", 0), "num_candidates=0 is not allowed"),
        (lambda: lm.fill("___", 1.5), "num_candidates=1.5 is not allowed"),
        (
            lambda: lm.fill("___", 1001),
            "num_candidates=1001 is not allowed: give a whole number from 1 to 1,000",
        ),
        (lambda: large.fill("___"), "tokenizer has no mask token"),
        (lambda: LanguageModel(lm.module).fill("___"), "needs a tokenizer"),
        (lambda: headless.fill("___"), rf"this {kind} has no masked head, .*\(bert or roberta\)"),
        (lambda: LanguageModel(gpt2).fill("___"), r"this gpt2 is a decoder.*\(bert or roberta\).*`generate`"),
        (lambda: lm.generate([1], 2), r"cannot continue a text; .* or let it fill blanks \(`fill`, --fill\)"),
        (lambda: headless.generate([1], 2), r"cannot continue a text; .* vectors \(`lm.embed`\)$"),
        (lambda: lm.fill("___", max_new_tokens=2), "max_new_tokens=2 has no effect on a masked model"),
    ):
        with pytest.raises(UsageError, match=words) as error:
            attempt()
        assert "\n" not in str(error.value)


def test_a_mask_that_wants_to_be_a_word_says_so(masked: ModuleType) -> None:
    tree = masked.tokenizer("bert").definition()
    for token in tree["added_tokens"]:
        token["single_word"] = token["content"] == "[MASK]"
    encoder = MarkedBlanks(Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(tree)), {}))
    assert encoder.encode("The ___ sat").places == (2,)
    with pytest.raises(
        BundleError, match="finds 1 special tokens where the blanks of the text make 2; put a space"
    ):
        encoder.encode("The ___ walk___")
