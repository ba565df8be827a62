"""A decoder fills one blank from the text before and after it, as exhaustive search would."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from tests.generation.test_gaps import WORDS, words_tokenizer
from tests.models.reference import make_pair, randomize

from seedbed.base.errors import BundleError, UsageError
from seedbed.generation import gaps
from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import family
from seedbed.text.blanks import infill_ids
from seedbed.text.special_form import BLANK_KEY

OWN = ("<|a|>", "<|b|>", "<|c|>")
TEMPLATE = "<|a|>{before}<|b|>{after}<|c|>"


@pytest.fixture(scope="module")
def pair() -> tuple[Any, LanguageModel]:
    """GPT-2 of `transformers` and ours, with the same random weights and special tokens of their own."""
    tokenizer = words_tokenizer("t5", marks=OWN)
    config: Any = replace(family("gpt2").sized(32, 2), vocab_size=tokenizer.vocab_size + 2, max_positions=40)
    config = replace(config, num_heads=4, dropout=0.0).with_attention(head_dim=8)
    theirs, module = make_pair(config, lambda m, std=0.15: randomize(m, std))
    return theirs, LanguageModel(module, tokenizer, generation={BLANK_KEY: TEMPLATE})


def test_candidates_are_those_of_exhaustive_search(
    pair: tuple[Any, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt is what `transformers` reads; a candidate's probability includes the end token."""
    theirs, lm = pair
    assert lm.tokenizer is not None
    monkeypatch.setattr(gaps, "NUM_BEAMS", 1000)
    ids = lm.tokenizer.vocabulary
    prompt = [ids[name] for name in ("<|a|>", "▁the", "▁cat", "<|b|>", "▁on", "▁a", "▁mat", "<|c|>")]
    assert lm.blank_ids("the cat ___ on a mat") == prompt
    expected = {}
    for length in range(3):
        for words in product(WORDS, repeat=length):
            answer = [*(ids[word] for word in words), ids["</s>"]]
            with torch.no_grad():
                logits = theirs(torch.tensor([[*prompt, *answer[:-1]]])).logits[0, -len(answer) :]
            probability = math.exp(logits.log_softmax(-1)[range(len(answer)), answer].sum())
            text = lm.tokenizer.decode([*prompt[1:2], *answer[:-1]])
            expected[text] = max(probability, expected.get(text, 0.0))
    best = sorted(expected.values(), reverse=True)[:12]
    filled = lm.fill("the cat ___ on a mat", 12, max_new_tokens=2)
    assert [c.probability for c in filled.blanks[0]] == pytest.approx(best, rel=1e-4)
    assert {len(c.token_ids) for c in filled.blanks[0]} == {0, 1, 2}
    assert filled.text == f"the cat {filled.blanks[0][0].text} on a mat"


def test_only_a_template_s_own_tokens_are_special(pair: tuple[Any, LanguageModel]) -> None:
    """Whatever else a user writes is text, the end token too."""
    _, lm = pair
    assert lm.tokenizer is not None
    ids = lm.blank_ids("the </s> ___ cat")
    assert [lm.tokenizer.token(i) for i in ids if i in lm.tokenizer.special_ids - {0}] == [
        "<|a|>",
        "<|b|>",
        "<|c|>",
    ]
    assert infill_ids(lm.tokenizer, TEMPLATE) == [lm.tokenizer.vocabulary[name] for name in OWN]
    assert infill_ids(lm.tokenizer, "<|a|><|b|>{after}<|c|>{before}") is not None
    for wrong in ("{before}{after}", "<|a|>{before}<|b|>{after}{after}<|c|>"):
        assert infill_ids(lm.tokenizer, wrong) is None
    for lacking in ("<|a|>{before}<|d|>{after}<|c|>", "<|a|>{before}<|c|>", "<|a|>x{before}{after}"):
        assert infill_ids(lm.tokenizer, lacking) is None


def test_what_cannot_be_filled_gives_one_line(pair: tuple[Any, LanguageModel]) -> None:
    _, lm = pair
    other = LanguageModel(lm.module, words_tokenizer("t5"), generation=lm.generation)
    silent = LanguageModel(lm.module, lm.tokenizer)
    masks = LanguageModel(lm.module, lm.tokenizer, generation={BLANK_KEY: "mask"})
    attempts: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: lm.fill("the cat"), UsageError, "has no blank to fill; write ___ where something"),
        (lambda: lm.fill("a ___ cat ___"), UsageError, "has 2 blanks, and this model fills one"),
        (lambda: lm.fill("a ___ <|b|> cat"), BundleError, "no special token in the text"),
        (lambda: lm.fill("___ the" + " cat" * 30), UsageError, "the context of this model has 40"),
        (lambda: other.fill("the ___"), BundleError, "has no such special tokens; use the tokenizer of"),
        (lambda: lm.fill(5), UsageError, "5 is neither a text nor a list"),  # type: ignore[arg-type]
        (lambda: masks.fill("the ___"), UsageError, "a blank becomes 'mask' .* is a decoder, which needs a"),
        (lambda: silent.fill("the ___"), UsageError, "a decoder, which reads only what stands before"),
    ]
    for attempt, kind, words in attempts:
        with pytest.raises(kind, match=words) as error:
            attempt()
        assert "\n" not in str(error.value)
