"""Repetition is discouraged as `transformers` does it, alone and in company, by sampling and by searching."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from seedbed.base.errors import UsageError
from seedbed.generation.engine import Engine
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.repetition import History, discourage, follow
from seedbed.generation.request import Request
from seedbed.generation.settings import GenerationSettings
from seedbed.models.family import Network
from seedbed.nn.layout import Layout

LENGTHS = (7, 1, 12, 4)
BOTH = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}
KINDS: list[dict[str, Any]] = [
    {"repetition_penalty": 1.5},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    BOTH,
]


def history(ids: Sequence[int], num_prompt: int, penalty: float, size: int, vocab: int) -> History:
    made = History(ids[:num_prompt], penalty=penalty, ngram_size=size, vocab_size=vocab)
    for token_id in ids[num_prompt:]:
        made.push(token_id)
    return made


def reference(scores: Tensor, ids: Sequence[int], penalty: float, size: int) -> Tensor:
    """One row of `transformers`, in the order of its `generate`."""
    if penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), scores)
    return NoRepeatNGramLogitsProcessor(size)(torch.tensor([ids]), scores) if size else scores


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.integers(0, 6), min_size=1, max_size=100),
            st.sampled_from([1.0, 1.2, 3.0, 0.6]),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 100),
    share=st.floats(0, 1),
)
def test_scores_are_those_of_transformers(
    rows: list[tuple[list[int], float, int]], seed: int, share: float
) -> None:
    logits = torch.randn(len(rows), 90, generator=torch.Generator().manual_seed(seed)) * 3
    rows = [([token * 13 for token in ids], penalty, size) for ids, penalty, size in rows]
    histories = [history(ids, round(share * len(ids)), *how, vocab=90) for ids, *how in rows]
    for scores in (logits, logits.log_softmax(-1)):
        before = scores.clone()
        theirs = torch.cat([reference(scores[r : r + 1], *row) for r, row in enumerate(rows)])
        assert torch.equal(discourage(scores, histories), theirs)
        assert torch.equal(scores, before)  # log-probabilities are read from them afterwards


def test_many_distinct_tokens_are_kept_apart() -> None:
    ids = torch.randperm(5000, generator=torch.Generator().manual_seed(1)).tolist()
    made = history(ids[:1000], 300, 1.2, 2, 5000)
    assert made.seen_ids.tolist() == ids[:1000]
    assert discourage(torch.ones(1, 5000), [made])[0, ids].lt(1).tolist() == [True] * 1000 + [False] * 4000


def test_where_nothing_is_set_nothing_is_computed() -> None:
    scores = torch.zeros(2, 5)
    assert History.of((1, 2), GenerationSettings(), vocab_size=5) is None
    assert discourage(scores, [None, None]) is scores


def test_a_fork_goes_its_own_way_and_the_last_follower_takes_the_history() -> None:
    first = history((1, 2, 1), 3, 1.5, 2, 9)
    second = first.fork()
    first.push(3)
    second.push(2)
    assert first.banned_ids.tolist() == [] and second.banned_ids.tolist() == [1]
    assert set(first.seen_ids.tolist()) == {1, 2, 3} and set(second.seen_ids.tolist()) == {1, 2}
    assert second._prompt_followers is first._prompt_followers
    moved = follow([first, second], [1, 0, 1])
    assert moved[1] is first and moved[2] is second and moved[0] is not second
    moved[0].push(4)
    assert 4 not in second.seen_ids


# ---- whole answers


@pytest.fixture(params=["gpt2", "llama", "bloom", "t5", "bart"])
def networks(request: pytest.FixtureRequest, make_reference: Callable[[str], Any]) -> Any:
    return make_reference(request.param)


def ends_of(networks: Any, prompts: list[list[int]], how: dict[str, Any]) -> list[int]:
    """A token that answers sample early, so that some end."""
    free = networks.ours().generate(prompts, 12, temperature=0, **how)
    return [free[0].token_ids[5]]


@pytest.mark.parametrize("beams", [{}, {"num_beams": 3}, {"num_beams": 4, "length_penalty": 0.5}], ids=str)
def test_answers_are_those_of_transformers(networks: Any, beams: dict[str, Any]) -> None:
    """Each prompt alone there: its padding counts as text in a batch (no_repeat_ngram_size=1 bans it)."""
    prompts, num_changed = networks.prompts(*LENGTHS), 0
    for how in KINDS:
        generation = {"eos_token_id": ends_of(networks, prompts, how)}
        lm = networks.ours(generation)
        found = [answer.token_ids for answer in lm.generate(prompts, 16, temperature=0, **beams, **how)]
        for prompt, ours in zip(prompts, found, strict=True):
            expected = networks.expected([prompt], generation, max_new_tokens=16, **beams, **how)
            assert [[ours]] == expected, how
        plain = lm.generate(prompts, 16, temperature=0, **beams)
        num_changed += found != [answer.token_ids for answer in plain]
    assert num_changed >= 4  # few answers repeat three tokens; and greedy ones already say the same again


def test_a_ragged_batch_is_that_of_transformers(networks: Any) -> None:
    prompts = networks.prompts(*LENGTHS)
    ours = networks.ours().generate(prompts, 16, temperature=0, **BOTH)
    assert [[answer.token_ids] for answer in ours] == networks.expected(prompts, max_new_tokens=16, **BOTH)


def test_several_answers_of_a_search_are_those_of_transformers(networks: Any) -> None:
    (prompt,) = networks.prompts(6)
    ours = networks.ours().generate(prompt, 14, num_beams=4, num_samples=3, **BOTH)
    theirs = networks.expected([prompt], max_new_tokens=14, num_beams=4, num_return_sequences=3, **BOTH)
    assert [[answer.token_ids for answer in ours]] == theirs


@pytest.mark.parametrize("num_beams", [1, 3])
def test_forced_tokens_come_all_the_same(networks: Any, num_beams: int) -> None:
    """A forced token may repeat an n-gram: it is forced after that was looked at."""
    forced = {"forced_bos_token_id": 7, "forced_eos_token_id": 2}
    how = {"no_repeat_ngram_size": 1, "num_beams": num_beams}
    prompt = [2] if networks.is_decoder else [4, 2, 5]
    ours = networks.ours(forced).generate(prompt, 8, temperature=0, **how)
    assert [[ours.token_ids]] == networks.expected([prompt], forced, max_new_tokens=8, **how)
    assert ours.token_ids[0] == 7 and ours.token_ids[-1] == 2


# ---- company


SAMPLED = GenerationSettings(max_new_tokens=10, temperature=1.5, seed=0)
MIXED = [
    SAMPLED,
    replace(SAMPLED, **BOTH),
    replace(SAMPLED, temperature=0, repetition_penalty=1.4),
    replace(SAMPLED, no_repeat_ngram_size=1, top_k=20, num_samples=3),
    replace(SAMPLED, temperature=1.0, num_beams=3, no_repeat_ngram_size=2, num_samples=2),
    replace(SAMPLED, min_p=0.05, repetition_penalty=0.8, logprobs=1),
]


@pytest.mark.parametrize("limits", [{}, {"max_rows": 4}, {"chunk_tokens": 3}])
@pytest.mark.parametrize("kind", ["gpt2", "lstm", "bart"])
def test_company_changes_no_answer(
    kind: str, limits: dict[str, int], make_reference: Callable[[str], Any]
) -> None:
    networks = make_reference(kind)
    lm, prompts = networks.ours(), networks.prompts(3, 9, 1, 14, 6, 2) * 2
    requests = [lm._request(prompt, MIXED[(5 * i) % 6]) for i, prompt in enumerate(prompts)]

    def answers(engine: Engine, some: list[Request], pause: int) -> list[list[list[int]]]:
        taken = []
        for i, request in enumerate(some):
            taken.append(engine.submit(request))
            for _ in range(pause * (i % 3)):
                engine.step()
        while engine.is_busy:
            engine.step()
        return [[answer.completion().token_ids for answer in each] for each in taken]

    alone = [answers(lm.engine(), [request], 0)[0] for request in requests]
    for pause in (0, 1):
        assert answers(lm.engine(**limits), requests, pause) == alone


def test_samples_do_not_count_as_text_of_each_other(gpt2: Network) -> None:
    """One after the other, since tokens that are sampled in one step all look at the text before it."""
    how = GenerationSettings(temperature=0, max_new_tokens=9, no_repeat_ngram_size=1, num_samples=3)
    engine = Engine(gpt2, max_rows=1)
    answers = engine.submit(Request((5, 6, 7), how))
    while engine.is_busy:
        engine.step()
    alone = LanguageModel(gpt2).generate([5, 6, 7], 9, temperature=0, no_repeat_ngram_size=1)
    assert [answer.completion() for answer in answers] == [alone] * 3


def test_log_probabilities_are_the_networks_own(gpt2: Network) -> None:
    prompt = [5, 6, 7, 5, 6]
    answer = LanguageModel(gpt2).generate(prompt, 6, temperature=0, logprobs=1, **BOTH)
    ids = torch.tensor([*prompt, *answer.token_ids])
    with torch.inference_mode():
        exact = gpt2.output(gpt2(ids, Layout.of([len(ids)])))[4:-1].log_softmax(-1)
    reported = [each.logprob for each in answer.logprobs]
    assert reported == pytest.approx(exact.gather(-1, ids[5:, None])[:, 0].tolist(), abs=1e-4)
    assert any(each.top[0][0] != each.token_id for each in answer.logprobs)


# ---- where no token may follow


def small(gpt2: Network, num: int) -> list[int]:
    """A prompt of all tokens but `num`."""
    return list(range(gpt2.config.vocab_size - num))


@pytest.fixture
def lstm(make_reference: Callable[[str], Any]) -> Network:
    """A network whose context has no end."""
    module: Network = make_reference("lstm").module
    return module


@pytest.mark.parametrize("num_beams", [1, 2])
def test_an_answer_ends_where_no_token_is_left(lstm: Network, num_beams: int) -> None:
    lm, prompt = LanguageModel(lstm), small(lstm, 4)
    how: dict[str, Any] = {"temperature": 0, "num_beams": num_beams}
    one, two = lm.generate([prompt, [5, 6]], 10, no_repeat_ngram_size=1, **how)
    assert sorted(one.token_ids) == list(range(lstm.config.vocab_size - 4, lstm.config.vocab_size))
    assert one.finish_reason == "length"
    assert two == lm.generate([5, 6], 10, no_repeat_ngram_size=1, **how) and len(two.token_ids) == 10
    assert len(lm.generate(prompt, 4, no_repeat_ngram_size=1, **how).token_ids) == 4


def test_a_prompt_after_which_nothing_may_come_is_refused(lstm: Network) -> None:
    with pytest.raises(UsageError, match=r"no_repeat_ngram_size=1 leaves no token .* give a larger") as error:
        LanguageModel(lstm).generate(small(lstm, 0), 3, no_repeat_ngram_size=1)
    assert "\n" not in str(error.value)
