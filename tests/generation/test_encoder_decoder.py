"""Encoder-decoders read the prompt once and answer as `transformers` does; encoders give their logits."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from seedbed.base.errors import UsageError
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load
from seedbed.generation.request import Request
from seedbed.generation.settings import GenerationSettings
from seedbed.models.family import Network
from seedbed.nn.layout import Layout

LENGTHS = (9, 2, 14, 1, 9, 6)


@pytest.fixture(params=["t5", "flan-t5", "bart", "transformer"])
def reference(request: pytest.FixtureRequest, make_reference: Callable[[str], Any]) -> Any:
    return make_reference(request.param)


@pytest.fixture
def encoder(make_reference: Callable[[str], Any]) -> Any:
    return make_reference("bert")


def test_greedy_answers_are_those_of_transformers(reference: Any) -> None:
    prompts = reference.prompts(*LENGTHS)
    free = reference.ours().generate(prompts, 20, temperature=0)
    assert [[c.token_ids] for c in free] == reference.expected(prompts, max_new_tokens=20)
    ends = [free[0].token_ids[4], free[2].token_ids[9]]
    ended = reference.ours({"eos_token_id": ends}).generate(prompts, 20, temperature=0)
    expected = reference.expected(prompts, {"eos_token_id": ends}, max_new_tokens=20)
    assert [[c.token_ids] for c in ended] == expected
    assert {c.finish_reason for c in ended} >= {"stop"}
    for prompt, together in zip(prompts, free, strict=True):
        assert reference.ours().generate(prompt, 20, temperature=0) == together


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(
    "forced",
    [
        {"forced_bos_token_id": 7},
        {"forced_eos_token_id": 11, "eos_token_id": [11]},
        {"forced_bos_token_id": 7, "forced_eos_token_id": [11, 12], "eos_token_id": [12, 11]},
    ],
)
def test_forced_tokens_come_first_and_last(reference: Any, num_beams: int, forced: dict[str, Any]) -> None:
    prompts = reference.prompts(*LENGTHS)
    if num_beams > 1 and len(forced) == 3:  # which of two equally forced tokens a search keeps, nobody says
        forced = forced | {"forced_eos_token_id": 11}
    expected = reference.expected(prompts, forced, max_new_tokens=9, num_beams=num_beams)
    answers = reference.ours(forced).generate(prompts, 9, temperature=0, num_beams=num_beams)
    assert [[c.token_ids] for c in answers] == expected
    for answer in answers:
        assert answer.token_ids[0] == forced.get("forced_bos_token_id", answer.token_ids[0])
        assert "forced_eos_token_id" not in forced or answer.token_ids[-1] in (11, 12)


def test_forced_tokens_come_when_sampling_too(reference: Any) -> None:
    forced = {"forced_bos_token_id": 7, "forced_eos_token_id": 11, "eos_token_id": []}
    lm = reference.ours(forced)
    for settings in ({}, {"top_k": 3}, {"top_p": 0.9}):
        answers = lm.generate([4, 5, 6], 6, temperature=2.0, seed=3, num_samples=4, **settings)
        assert all((a.token_ids[0], a.token_ids[5]) == (7, 11) for a in answers)
        assert len({tuple(a.token_ids) for a in answers}) > 1


class Counting:
    """A network that counts the tokens of the sources that it reads."""

    def __init__(self, module: Network) -> None:
        self.module, self.num_read = module, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.module, name)

    def start(self, num_rows: int, capacity: int, **sources: Any) -> Any:
        self.num_read += len(sources.get("source", ()))
        return self.module.start(num_rows, capacity, **sources)


@pytest.mark.parametrize("settings", [{"num_beams": 4, "num_samples": 2}, {"num_samples": 5, "seed": 1}])
def test_a_source_is_encoded_once(reference: Any, settings: dict[str, Any]) -> None:
    counting = Counting(reference.module)
    lm = LanguageModel(counting, generation={"decoder_start_token_id": 2})  # type: ignore[arg-type]
    lm.generate(reference.prompts(9, 4), 6, **settings)
    assert counting.num_read == 13


def test_samples_depend_on_the_source(reference: Any) -> None:
    lm, (prompt, other) = reference.ours(), reference.prompts(6, 7)
    settings = {"seed": 1, "temperature": 50.0, "num_samples": 3}
    one, two = lm.generate([prompt, other], 8, **settings)
    assert lm.generate(prompt, 8, **settings) == one and one != two
    assert len({tuple(c.token_ids) for c in one + two}) == 6


def test_scores_and_logits_are_those_of_the_reference(reference: Any) -> None:
    lm, prompts = reference.ours(), reference.prompts(*LENGTHS)
    answers = reference.prompts(5, 5, 5, 5, 5, 5)
    source, mask = torch.zeros(6, 14, dtype=torch.int64), torch.zeros(6, 14, dtype=torch.int64)
    for r, prompt in enumerate(prompts):
        source[r, : len(prompt)], mask[r, : len(prompt)] = torch.tensor(prompt), 1
    inputs = torch.tensor([[2, *answer[:-1]] for answer in answers])
    with torch.no_grad():
        theirs = reference.theirs(input_ids=source, attention_mask=mask, decoder_input_ids=inputs).logits
    assert (lm.logits(source, mask, decoder_input_ids=inputs) - theirs).abs().max() < 2e-4
    logprobs = theirs.log_softmax(-1)
    pairs = [*zip(prompts, answers, strict=True), (prompts[0], [])]
    *scores, nothing = lm.score_batch(pairs)
    for score, answer, row in zip(scores, answers, logprobs, strict=True):
        exact = row.gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()
        assert score.token_logprobs == pytest.approx(exact, abs=5e-4)
    assert nothing.logprob == 0 and lm.score(*pairs[1]).logprob == pytest.approx(scores[1].logprob, abs=1e-3)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_text_is_read_as_transformers_reads_it(num_beams: int, masked: ModuleType, tmp_path: Path) -> None:
    """With the special tokens that the tokenizer puts around a document; an empty one is these alone."""
    masked.model("bart").save(tmp_path / "bart")
    lm, texts = load(tmp_path / "bart"), ["The cat sat on the mat", "", "</s> dogs"]
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "bart")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bart", split_special_tokens=True)
    ours = lm.generate(texts, 12, temperature=0, num_beams=num_beams)
    for text, answer in zip(texts, ours, strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids
        made = model.generate(ids, max_new_tokens=12, num_beams=num_beams, do_sample=False)
        assert answer.token_ids == made[0, 1:].tolist()
        assert lm.generate(ids[0].tolist(), 12, temperature=0, num_beams=num_beams) == answer
    assert len({tuple(answer.token_ids) for answer in ours}) == 3
    assert lm.score(texts[0], " dogs") == lm.score(ids_of(lm, texts[0]), " dogs")


def ids_of(lm: LanguageModel, text: str) -> list[int]:
    assert lm.tokenizer is not None
    return lm.tokenizer.encode_document(text)


def test_masked_models_give_the_logits_of_the_reference(encoder: Any) -> None:
    rows = encoder.prompts(9, 4, 12)
    ids, mask, segments = (torch.zeros(3, 12, dtype=torch.int64) for _ in range(3))
    for r, row in enumerate(rows):
        ids[r, : len(row)], mask[r, : len(row)], segments[r, 2 : len(row)] = torch.tensor(row), 1, 1
    lm = LanguageModel(encoder.module)
    for given in ({}, {"token_type_ids": segments}):
        with torch.no_grad():
            theirs = encoder.theirs(input_ids=ids, attention_mask=mask, **given).logits
        found = lm.logits(ids, mask, **given)
        assert ((found - theirs).abs().amax(-1) * mask).max() < 2e-4
    with pytest.raises(UsageError, match=r"an encoder-only network reads .* cannot continue"):
        lm.generate([1, 2], 3)
    with pytest.raises(UsageError, match="token_type_ids go from 0 to 1"):
        lm.logits(ids, mask, token_type_ids=segments * 2)


def test_bad_input_is_refused_in_one_line(make_reference: Callable[[str], Any], gpt2: Network) -> None:
    bart, decoder = make_reference("bart").ours(), LanguageModel(gpt2)
    ids = torch.ones(2, 3, dtype=torch.int64)
    for attempt, message in (
        (lambda: LanguageModel(bart.module).generate([1], 2), "names no token that its answers start with"),
        (lambda: bart.generate([1] * 61, 2), "the source has 61 tokens, but the context holds 60"),
        (lambda: bart.generate([101], 2), "token id 101"),
        (lambda: bart.score([1] * 61, [1]), "the source has 61 tokens"),
        (lambda: bart.score([1], [1] * 61), "the row has 61 tokens"),
        (lambda: bart.logits(ids), "decoder_input_ids .* not given"),
        (lambda: bart.logits(ids, decoder_input_ids=ids[:1]), "decoder_input_ids 1 rows"),
        (lambda: bart.logits(ids, ids * torch.tensor([[1], [0]]), decoder_input_ids=ids), "1 documents"),
        (lambda: bart.logits(ids, decoder_input_ids=ids[0]), r"decoder_input_ids have the shape \(3,\)"),
        (lambda: bart.logits(ids, decoder_input_ids=ids + 100), "token id 101"),
        (lambda: bart.logits(ids, token_type_ids=ids), "token_type_ids belong to an encoder"),
        (lambda: decoder.logits(ids, decoder_input_ids=ids), "shape is 'decoder'"),
        (lambda: decoder.logits(ids, token_type_ids=ids), "token_type_ids belong to an encoder"),
        (lambda: decoder.engine().submit(Request((1,), GenerationSettings(), (1,))), "reads no source"),
        (lambda: bart.engine().submit(Request((1,), GenerationSettings())), "the source has no token"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            attempt()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_answers_end_with_the_context(make_reference: Callable[[str], Any], num_beams: int) -> None:
    lm = make_reference("bart").ours()
    answer = lm.generate([5, 6, 7], 100, temperature=0, num_beams=num_beams)
    assert len(answer.token_ids) == 59 and answer.finish_reason == "length"


def test_an_empty_prompt_is_an_empty_document(make_reference: Callable[[str], Any]) -> None:
    reference = make_reference("t5")
    lm = reference.ours({"eos_token_id": 1})
    assert lm.generate([[]], 5, temperature=0) == lm.generate([[1]], 5, temperature=0)


def test_the_memory_is_shared_and_grows_with_the_sources(make_reference: Callable[[str], Any]) -> None:
    module = make_reference("bart").module
    with torch.no_grad():
        state = module.start(1, 4)
        state.select([])
        for length in (3, 8):
            ids = torch.arange(4, 4 + length)
            fresh = module.start(1, 1, source=ids, source_layout=Layout.of([length]))
            fresh.select([0, 0])
            state.join(fresh)
    assert state.memory.slots == [0, 0, 1, 1] and state.keys.slots == [0, 1, 2, 3]
    assert state.memory.lengths == [3, 3, 8, 8] and state.memory.kv.size(1) == 2
    state.select([0, 0, 3, 3])
    assert state.keys.slots == [0, 1, 2, 3] and state.memory.slots == [0, 0, 1, 1]
