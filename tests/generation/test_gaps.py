"""Encoder-decoders fill blanks as exhaustive search over `transformers`' own probabilities would."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.models.reference import make_pair, randomize
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Core
from transformers import AutoTokenizer

import seedbed
from seedbed.base.errors import UsageError
from seedbed.generation import gaps
from seedbed.generation.filling import Filled
from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import export_tensors, family
from seedbed.nn.config import HeadConfig
from seedbed.nn.layout import Layout
from seedbed.text.blanks import MarkedBlanks
from seedbed.text.tokenizer import Tokenizer

WORDS = ("▁the", "▁cat", "▁sat", "▁on", "▁mat", "▁a", "▁dog", "s", "▁")
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(3))
SENTENCE = "the cat sat on a mat"
KINDS = ("t5", "bart")


def words_tokenizer(kind: str, *, marks: Sequence[str] | None = None) -> Tokenizer:
    """A few words; T5's kind has sentinels and an end, BART's a mask and both ends."""
    pieces = [("<unk>", -9.0), *((word, -1.0 if len(word) > 1 else -3.0) for word in WORDS)]
    core = Core(models.Unigram(pieces, unk_id=0))
    words = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    core.pre_tokenizer, core.decoder = pre_tokenizers.Sequence(words), decoders.Metaspace()
    marks = marks if marks is not None else SENTINELS if kind == "t5" else ("<mask>",)
    named = ["<pad>", "<s>", "</s>", "<unk>", *marks]
    core.add_special_tokens([AddedToken(name, normalized=False) for name in named])
    single = ["$A", "</s>"] if kind == "t5" else ["<s>", "$A", "</s>"]
    ends = [(name, core.token_to_id(name)) for name in ("<s>", "</s>")]
    core.post_processor = processors.TemplateProcessing(single=single, special_tokens=ends)
    config = {"eos_token": "</s>"} | ({"mask_token": "<mask>"} if "<mask>" in marks else {})
    return Tokenizer(core, config)


def tiny_pair(kind: str) -> tuple[Any, LanguageModel]:
    """The reference and our model, with the same random weights."""
    tokenizer = words_tokenizer(kind)
    config = replace(family(kind).sized(32, 2), vocab_size=tokenizer.vocab_size + 2, max_positions=40)
    config = replace(config, num_heads=4, dropout=0.0).with_attention(head_dim=8)
    theirs, module = make_pair(config, lambda m, std=0.15: randomize(m, std))
    start = {"decoder_start_token_id": tokenizer.vocabulary["<pad>"]}
    return theirs, LanguageModel(module, tokenizer, generation=start)


class Reference:
    """Probabilities of `transformers`: what the decoder writes after a source, teacher-forced."""

    def __init__(self, theirs: Any, tokenizer: Tokenizer) -> None:
        self.theirs, self.tokenizer = theirs, tokenizer
        self.ids = tokenizer.vocabulary

    def logprob(self, source: Sequence[str], before: Sequence[str], after: Sequence[int]) -> float:
        """The summed log-probability of the tokens `after`."""
        read = [*(self.ids[name] for name in ("<pad>", *before)), *after]
        with torch.no_grad():
            logits = self.theirs(
                input_ids=torch.tensor([[self.ids[name] for name in source]]),
                decoder_input_ids=torch.tensor([read[:-1]]),
            ).logits[0, -len(after) :]
        return float(logits.log_softmax(-1)[range(len(after)), list(after)].sum())

    def candidates(
        self, source: Sequence[str], before: Sequence[str], closings: Sequence[Sequence[str]], most: int
    ) -> dict[tuple[int, ...], float]:
        """The probability of every candidate of at most `most` words, closed by any of the closings."""
        words = [self.ids[word] for word in WORDS]
        closed = [[self.ids[name] for name in closing] for closing in closings]
        return {
            ids: sum(math.exp(self.logprob(source, before, [*ids, *closing])) for closing in closed)
            for length in range(most + 1)
            for ids in product(words, repeat=length)
        }


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pair(kind: str) -> tuple[Reference, LanguageModel]:
    theirs, lm = tiny_pair(kind)
    assert lm.tokenizer is not None
    teach(lm, lessons(kind, lm.tokenizer.vocabulary), steps=12)  # a random one fills with nothing
    theirs.load_state_dict(export_tensors(lm.module), strict=False)
    theirs.tie_weights()
    return Reference(theirs, lm.tokenizer), lm


# For each kind: the source of TEXT, and of each blank what comes before it and what closes it, as functions
# of what was filled in before.
TEXT = "the ___ sat on ___."
Expected = tuple[list[str], list[str], list[list[str]]]


def expected_gaps(kind: str, first: Sequence[str]) -> tuple[Expected, Expected]:
    """Of the two blanks of TEXT: the source, what the decoder reads before, and what may close it."""
    around = (["▁the"], ["▁sat", "▁on"], ["▁", "<unk>"])
    if kind == "t5":
        zero, one, two = SENTINELS
        source = [*around[0], zero, *around[1], one, *around[2], "</s>"]
        before = [[zero], [zero, *first, one]]
        return (source, before[0], [[one], ["</s>"]]), (source, before[1], [[two], ["</s>"]])
    source = ["<s>", *around[0], "<mask>", *around[1], "<mask>", *around[2], "</s>"]
    start = ["<s>", *around[0]]
    closings = [[around[1]], [[*around[2], "</s>"]]]
    return (source, start, closings[0]), (source, [*start, *first, *around[1]], closings[1])


def by_text(reference: Reference, probabilities: dict[tuple[int, ...], float]) -> list[tuple[Any, float]]:
    """The best spelling of each text, most likely first."""
    best: dict[str, tuple[Any, float]] = {}
    for ids, probability in probabilities.items():
        text = reference.tokenizer.decode([reference.ids["▁the"], *ids])
        if probability > best.get(text, ((), -1.0))[1]:
            best[text] = (ids, probability)
    return sorted(best.values(), key=lambda found: -found[1])


def test_candidates_are_those_of_exhaustive_search(
    kind: str, pair: tuple[Reference, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, lm = pair
    monkeypatch.setattr(gaps, "NUM_BEAMS", 1000)  # every beam goes on
    filled = lm.fill(TEXT, 12, max_new_tokens=2)
    names = {i: name for name, i in reference.ids.items()}
    first = [names[i] for i in filled.blanks[0][0].token_ids]
    assert first
    for blank, gap in zip(filled.blanks, expected_gaps(kind, first), strict=True):
        expected = by_text(reference, reference.candidates(*gap, most=2))[:12]
        assert [tuple(c.token_ids) for c in blank] == [ids for ids, _ in expected]
        assert [c.probability for c in blank] == pytest.approx([p for _, p in expected], rel=1e-4)
    assert {len(c.token_ids) for blank in filled.blanks for c in blank} == {0, 1, 2}
    assert filled.text == f"the{filled.blanks[0][0].text} sat on{filled.blanks[1][0].text}."


def test_few_beams_give_exact_probabilities_of_good_candidates(
    kind: str, pair: tuple[Reference, LanguageModel]
) -> None:
    reference, lm = pair
    (blank, _), (gap, _) = lm.fill(TEXT, 3, max_new_tokens=3).blanks, expected_gaps(kind, ())
    every = reference.candidates(*gap, most=3)
    assert [c.probability for c in blank] == sorted((c.probability for c in blank), reverse=True)
    for candidate in blank:
        assert candidate.probability == pytest.approx(every[tuple(candidate.token_ids)], rel=1e-4)
    assert tuple(blank[0].token_ids) == max(every, key=every.__getitem__)
    assert 0 < sum(c.probability for c in lm.fill(TEXT, 500, max_new_tokens=2).blanks[0]) < 1


def test_texts_together_give_what_each_gives_alone(pair: tuple[Reference, LanguageModel]) -> None:
    _, lm = pair
    texts = [TEXT, "___ cat", "the ___"]
    together = lm.fill(texts, max_new_tokens=2)
    assert together == [lm.fill(text, max_new_tokens=2) for text in texts]
    assert all(isinstance(one, Filled) and len(one.blanks[0]) == 5 for one in together)
    assert lm.fill([]) == [] and together[2].text == lm.fill("the ___", 1, max_new_tokens=2).text


def test_the_users_own_marks_are_blanks(kind: str, pair: tuple[Reference, LanguageModel]) -> None:
    """Sentinels of any number, in any order; other control strings stay text."""
    reference, lm = pair
    own = "the <extra_id_2> sat on <extra_id_0>." if kind == "t5" else "the <mask> sat on <mask>."
    assert lm.fill(own, max_new_tokens=2) == lm.fill(TEXT, max_new_tokens=2)
    encoder = lm._filler.encoder
    controls, ids = encoder.encode("</s> ___ <pad>").ids, reference.ids
    assert controls.count(ids["</s>"]) == 1 and controls[-1] == ids["</s>"] and ids["<pad>"] not in controls


def test_sources_are_those_of_transformers(kind: str, masked: ModuleType, tmp_path: Path) -> None:
    """A user who writes the marks there gets the same ids: the space before one is no token."""
    tokenizer = words_tokenizer("t5") if kind == "t5" else masked.tokenizer("bart")
    sentinels = tokenizer.sentinel_ids
    encoder = MarkedBlanks(tokenizer, sentinels=sentinels, whole_gaps=True)
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in (TEXT, "___ cat sat", "the ___", "the cat (___) sat ___ , ___ on"):
        marked, marks = text, SENTINELS if kind == "t5" else ("<mask>",) * 3
        for mark in marks:
            marked = marked.replace("___", mark, 1)
        assert list(encoder.encode(text).ids) == theirs(marked).input_ids


# ---- learnt


def teach(lm: LanguageModel, pairs: Sequence[tuple[list[int], list[int]]], steps: int) -> None:
    """Fit the network to (source, target) pairs; a target begins with what the decoder starts with."""
    optimizer = torch.optim.AdamW(lm.module.parameters(), lr=5e-3)
    rows = {
        "source": torch.tensor([i for source, _ in pairs for i in source]),
        "source_layout": Layout.of([len(source) for source, _ in pairs], device="cpu"),
    }
    layout = Layout.of([len(target) - 1 for _, target in pairs], device="cpu")
    read = torch.tensor([i for _, target in pairs for i in target[:-1]])
    targets = torch.tensor([i for _, target in pairs for i in target[1:]])
    for _ in range(steps):
        logits = lm.module.output(lm.module(read, layout, **rows))
        loss = torch.nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def lessons(kind: str, ids: dict[str, int]) -> list[tuple[list[int], list[int]]]:
    """The sentence with every gap of one to three words, and every two gaps of one word."""
    words = [f"▁{word}" for word in SENTENCE.split()]
    num = len(words)
    cuts = [[(a, b)] for a in range(num) for b in range(a + 1, min(a + 4, num + 1))]
    cuts += [[(a, a + 1), (b, b + 1)] for a in range(num) for b in range(a + 2, num)]
    made = []
    for gaps_of in cuts:
        source, spans, at = [], ["<pad>"], 0
        for mark, (a, b) in zip(SENTINELS, gaps_of, strict=False):
            source += [*words[at:a], mark if kind == "t5" else "<mask>"]
            spans, at = [*spans, mark, *words[a:b]], b
        source += words[at:]
        if kind == "t5":
            pair = [*source, "</s>"], [*spans, SENTINELS[len(gaps_of)], "</s>"]
        else:
            pair = ["<s>", *source, "</s>"], ["<pad>", "<s>", *words, "</s>"]
        made.append(([ids[name] for name in pair[0]], [ids[name] for name in pair[1]]))
    return made


def test_what_was_learnt_comes_back_into_the_blanks(kind: str) -> None:
    lm = tiny_pair(kind)[1]
    assert lm.tokenizer is not None
    teach(lm, lessons(kind, lm.tokenizer.vocabulary), steps=150)
    blanked = {
        "the ___ sat on a mat": [[" cat"]],
        "the ___ on a mat": [[" cat", " sat"]],
        "___ cat sat on a mat": [["the"]],
        "the cat sat ___": [[" on", " a", " mat"]],
        "the ___ sat on ___ mat": [[" cat"], [" a"]],
    }
    for words, filled in zip(blanked.values(), lm.fill([*blanked], 3, max_new_tokens=4), strict=True):
        assert filled.text == SENTENCE and len(filled.blanks) == len(words)
        for blank, expected in zip(filled.blanks, words, strict=True):
            assert blank[0].text == "".join(expected) and len(blank[0].token_ids) == len(expected)
            assert 0.8 < blank[0].probability <= 1 and blank[1].probability < 0.2


# ---- spaces and errors


@pytest.mark.parametrize(
    ("kind", "text", "pieces", "expected"),
    [
        ("t5", "The ___ (___) walk___ ON", [["▁c", "at"], ["t"], ["▁", "s"]], "The cat (t) walk s ON"),
        ("t5", "___, the ___ ___", [["▁c"], [], ["▁walk", "s"]], "c, the walks"),
        ("t5", "Line\n___\n___.", [["▁c", "at"], []], "Line\ncat\n."),
        ("bart", "The ___ (___) walk___ ON", [["Ġcat", "s"], ["at"], ["s"]], "The cats (at) walks ON"),
        ("bart", "___ cat ___", [[], ["Ġwalk"]], "cat walk"),
        ("bart", "caf___ ___", [["Ã", "©"], ["Ġmat"]], "café mat"),
        ("bert", "The ___ (___) walk___  ON", [["cat", "##s"], [], ["##s"]], "The cats () walks  ON"),
        ("bert", "___ cat ___", [[], ["mat"]], "cat mat"),
    ],
)
def test_what_a_user_wrote_stays(
    kind: str, text: str, pieces: list[list[str]], expected: str, masked: ModuleType
) -> None:
    tokenizer, vocabulary = masked.tokenizer(kind), masked.tokenizer(kind).vocabulary
    encoder = MarkedBlanks(tokenizer, sentinels=tokenizer.sentinel_ids, whole_gaps=True)
    fills = [[vocabulary[piece] for piece in some] for some in pieces]
    assert encoder.fill(encoder.encode(text), fills) == expected


def test_a_text_ends_with_an_end_token_where_the_tokenizer_puts_none(kind: str) -> None:
    lm = tiny_pair(kind)[1]
    assert lm.tokenizer is not None
    core = Core.from_str(lm.tokenizer._core.to_str())
    core.post_processor = processors.TemplateProcessing(single=["$A"], special_tokens=[])
    bare = LanguageModel(lm.module, Tokenizer(core, lm.tokenizer.config), generation=lm.generation)
    ids = bare._filler.encoder.encode("the ___").ids
    assert [bare.tokenizer.token(i) for i in ids][-1] == "</s>" and len(ids) == 3  # type: ignore[union-attr]
    assert len(bare.fill("the ___", 4, max_new_tokens=2).blanks[0]) == 4


def test_what_cannot_be_filled_is_told_in_one_line(kind: str) -> None:
    lm = tiny_pair(kind)[1]
    assert lm.tokenizer is not None
    mark = "<extra_id_0>" if kind == "t5" else "<mask>"
    plain = LanguageModel(lm.module, words_tokenizer(kind, marks=()), generation=lm.generation)
    headless = seedbed.new(replace(lm.config, head=HeadConfig(kind="none")), tokenizer=lm.tokenizer)
    attempts: list[tuple[Callable[[], Any], str]] = [
        (lambda: lm.fill("a __ cat"), f"'a __ cat' has no blank to fill; write ___ or {mark} where"),
        (lambda: lm.fill("___ the" + " cat" * 40), "the context holds 40"),
        (lambda: lm.fill("the ___ cat ___ dog ___"), "16 tokens in each of its 3 blanks .* max_new_tokens"),
        (lambda: lm.fill("the ___", max_new_tokens=0), "max_new_tokens=0 is not allowed"),
        (lambda: lm.fill("the ___", max_new_tokens=True), "max_new_tokens=True is not allowed"),
        (lambda: lm.fill("the ___", 0), "num_candidates=0 is not allowed"),
        (
            lambda: plain.fill("the ___"),
            "sentinels .* or through a mask token, .* tokenizer has neither",
        ),
        (lambda: LanguageModel(lm.module).fill("___"), "needs a tokenizer"),
        (lambda: headless.fill("___"), f"this {kind} has no head that writes"),
    ]
    if kind == "t5":
        attempts += [(lambda: lm.fill("___ a" * 4), "a text has 4 blanks, .* has 3 sentinels")]
    else:
        attempts += [(lambda: lm.fill("the ___ ___"), "two blanks stand side by side")]
    for attempt, words in attempts:
        with pytest.raises(UsageError, match=words) as error:
            attempt()
        assert "\n" not in str(error.value)


def test_as_many_blanks_as_sentinels_are_ended_by_the_end_token_alone(
    pair: tuple[Reference, LanguageModel], kind: str
) -> None:
    lm, text = pair[1], "___ the ___ sat ___"
    (*_, last) = lm.fill(text, 2, max_new_tokens=1).blanks
    assert len(last) == 2
    if kind == "t5":
        endless = LanguageModel(lm.module, lm.tokenizer, generation=lm.generation | {"eos_token_id": []})
        with pytest.raises(UsageError, match="no token that ends a text"):
            endless.fill(text)
        assert len(endless.fill("the ___", 2, max_new_tokens=1).blanks[0]) == 2
