"""Beam search finds what `transformers` finds, alone and in company."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from seedbed.base.errors import BundleError, ConfigError
from seedbed.generation.beam import Beams, Continuation, continuations, in_place, split
from seedbed.generation.engine import Engine
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.request import Request
from seedbed.generation.sampling import Limits
from seedbed.generation.settings import GenerationSettings
from seedbed.models.family import Network

ALL = ("gpt2", "llama", "bloom", "t5", "flan-t5", "bart", "transformer")
GRID = list(product((2, 3, 4, 5), (0.6, 1.0, 2.0, -1.0, 0.0), (False, True, "never")))
LENGTHS = (7, 1, 12, 4)


@pytest.fixture(params=ALL)
def reference(request: pytest.FixtureRequest, make_reference: Callable[[str], Any]) -> Any:
    return make_reference(request.param)


def common_ends(reference: Any, prompts: list[list[int]], num: int) -> list[int]:
    """Tokens that searches sample early, so that many answers end and not all at once."""
    free = reference.ours().generate(prompts, 12, num_beams=3, num_samples=3)
    sampled = [token for answers in free for answer in answers for token in answer.token_ids[2:9]]
    return sorted(set(sampled), key=lambda token: (-sampled.count(token), token))[:num]


def found(reference: Any, prompts: list[list[int]], max_new_tokens: int, **settings: Any) -> Any:
    generation = settings.pop("generation", {})
    answers = reference.ours(generation).generate(prompts, max_new_tokens, **settings)
    if settings.get("num_samples", 1) == 1:
        answers = [[answer] for answer in answers]
    return [[answer.token_ids for answer in each] for each in answers]


# A fifth of the grid for each network, another one for each; all of it takes minutes.
@pytest.mark.parametrize("part", [0, 1])
def test_searches_are_those_of_transformers(reference: Any, part: int) -> None:
    prompts = reference.prompts(*LENGTHS)
    for i in range(ALL.index(reference.kind) + 7 * part, len(GRID), 10):
        num_beams, length_penalty, early_stopping = GRID[i]
        ends = common_ends(reference, prompts, i % 4)
        beams = {"num_beams": num_beams, "length_penalty": length_penalty, "early_stopping": early_stopping}
        num = 1 + i % num_beams
        expected = reference.expected(
            prompts, {"eos_token_id": ends or None}, max_new_tokens=16, num_return_sequences=num, **beams
        )
        own = found(reference, prompts, 16, generation={"eos_token_id": ends}, num_samples=num, **beams)
        assert own == expected, (GRID[i], ends)


def test_greedy_answers_are_those_of_transformers(reference: Any) -> None:
    prompts = reference.prompts(*LENGTHS, 20)
    for ends in ([], common_ends(reference, prompts, 2)):
        expected = reference.expected(prompts, {"eos_token_id": ends or None}, max_new_tokens=20)
        assert found(reference, prompts, 20, generation={"eos_token_id": ends}, temperature=0) == expected


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_first_token_is_forced_after_a_single_one(
    make_reference: Callable[[str], Any], num_beams: int
) -> None:
    reference, forced = make_reference("bloom"), {"forced_bos_token_id": 9, "forced_eos_token_id": 7}
    for prompt in ([5], [5, 6]):
        expected = reference.expected([prompt], forced, max_new_tokens=6, num_beams=num_beams)
        own = found(reference, [prompt], 6, generation=forced, temperature=0, num_beams=num_beams)
        assert own == expected and own[0][0][-1] == 7 and (own[0][0][0] == 9) == (len(prompt) == 1)


@pytest.mark.parametrize("limits", [{}, {"max_rows": 4}, {"chunk_tokens": 3}, {"max_state_tokens": 90}])
@pytest.mark.parametrize("kind", ["llama", "bloom", "bart", "lstm", "gru"])
def test_company_changes_no_search(
    kind: str, limits: dict[str, int], make_reference: Callable[[str], Any]
) -> None:
    reference = make_reference(kind)
    lm, prompts = reference.ours(), reference.prompts(*LENGTHS)
    base = GenerationSettings(max_new_tokens=8, temperature=0, seed=1)
    searched = replace(base, num_beams=4, num_samples=2, eos_ids=(40, 41, 42, 43, 44, 45, 46, 47, 48, 49))
    kinds = [searched, base, replace(base, temperature=1.0, num_samples=3), replace(searched, num_beams=3)]
    requests = [lm._request(prompt, kinds[i % 4]) for i, prompt in enumerate(prompts * 3)]
    requests += [lm._request(prompt, searched) for prompt in prompts]

    def answers(engine: Engine, some: list[Request], pause: int) -> list[list[list[int]]]:
        taken = []
        for i, request in enumerate(some):
            taken.append(engine.submit(request))
            for _ in range(pause * (i % 3)):
                engine.step()
        for _ in range(500):
            if engine.is_busy:
                engine.step()
        assert not engine.is_busy
        return [[answer.completion().token_ids for answer in each] for each in taken]

    alone = [answers(lm.engine(), [request], 0)[0] for request in requests]
    for pause in (0, 1):
        assert answers(lm.engine(**limits), requests, pause) == alone


def test_one_beam_is_greedy_and_more_are_more_likely(reference: Any) -> None:
    lm, prompts = reference.ours(), reference.prompts(*LENGTHS)
    greedy = lm.generate(prompts, 10, temperature=0)
    searched = lm.generate(prompts, 10, num_beams=5, length_penalty=0)
    for prompt, one, five in zip(prompts, greedy, searched, strict=True):
        gain = lm.score(prompt, five.token_ids).logprob - lm.score(prompt, one.token_ids).logprob
        assert gain >= -1e-3 and five.finish_reason == "length"


def test_a_search_can_be_cancelled_and_the_others_go_on(make_reference: Callable[[str], Any]) -> None:
    reference = make_reference("t5")
    lm, prompts = reference.ours(), reference.prompts(5, 9)
    settings = GenerationSettings(max_new_tokens=8, num_beams=3, num_samples=2)
    alone = [[a.token_ids for a in lm.generate(p, 8, num_beams=3, num_samples=2)] for p in prompts]
    engine = lm.engine()
    first, second = (engine.submit(lm._request(prompt, settings)) for prompt in prompts)
    engine.step()
    engine.cancel(first[0])
    while engine.is_busy:
        engine.step()
    assert first[0].finish_reason == "cancelled"
    assert first[1].token_ids == alone[0][1] and [a.token_ids for a in second] == alone[1]
    both = engine.submit(lm._request(prompts[0], settings))
    for answer in both:
        engine.cancel(answer)
    assert not engine.is_busy


def test_searches_over_damaged_weights_are_named(make_reference: Callable[[str], Any]) -> None:
    reference = make_reference("gpt2")
    module = type(reference.module)(reference.module.config)
    module.load_state_dict({n: w * torch.nan for n, w in reference.module.state_dict().items()})
    for max_new_tokens in (1, 4):
        with pytest.raises(BundleError, match="not finite"):
            LanguageModel(module.eval()).generate([5, 6], max_new_tokens, num_beams=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 0}, "num_beams=0 is not allowed: give"),
        ({"num_beams": 2, "temperature": 0.7}, "temperature=0.7 is not allowed beside num_beams=2"),
        ({"num_beams": 2, "top_k": 5}, "top_k=5 is not allowed beside"),
        ({"num_beams": 2, "top_p": 0.5}, "top_p=0.5 is not allowed beside"),
        ({"num_beams": 2, "stop": "a"}, "stop=.* is not allowed beside"),
        ({"num_beams": 2, "logprobs": 1}, "logprobs=1 is not allowed beside"),
        ({"num_beams": 2, "num_samples": 3}, "give at most 2"),
        ({"num_beams": 2, "length_penalty": float("nan")}, "give a number from -20 to 20"),
        ({"num_beams": 2, "early_stopping": "always"}, "give True, False or 'never'"),
        ({"length_penalty": 2.0}, "length_penalty=2.0 has no effect with num_beams=1"),
        ({"early_stopping": True}, "early_stopping=True has no effect with num_beams=1"),
    ],
)
def test_what_does_not_go_with_beams_is_refused_in_one_line(
    gpt2: Network, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        LanguageModel(gpt2).generate([1], **settings)
    assert "\n" not in str(error.value)


# ---- the bookkeeping


def test_continuations_are_the_most_likely_of_all_beams() -> None:
    logprobs = torch.tensor([[[-1.0, -2.0, -9.0], [-1.5, -0.1, -7.0]]])
    (best,) = continuations(logprobs, torch.tensor([[0.0, -1.0]]), 3)
    assert [(c.beam, c.token_id) for c in best] == [(0, 0), (1, 1), (0, 1)]
    assert [c.logprob for c in best] == pytest.approx([-1.0, -1.1, -2.0])
    (first,) = continuations(logprobs[:, :1], torch.tensor([[0.0, -1e9]]), 3)
    assert [(c.beam, c.token_id) for c in first] == [(0, 0), (0, 1), (0, 2)]


def test_only_the_first_of_those_that_end_are_kept() -> None:
    best = [Continuation(-1.0 - i, 0, token) for i, token in enumerate((3, 9, 4, 9, 5))]
    running, ended = split(best, 2, eos_ids=frozenset({9}), is_last=False)
    assert running == [best[0], best[2]] and ended == [best[1]]
    assert split(best, 2, eos_ids=frozenset(), is_last=True) == ([], best[:2])


def test_beams_stay_in_place_as_far_as_they_can() -> None:
    after = [Continuation(-1.0, 2, 7), Continuation(-2.0, 2, 8), Continuation(-3.0, 0, 9)]
    assert in_place(after) == [after[2], after[1], after[0]]


@pytest.mark.parametrize(
    ("early_stopping", "length_penalty", "is_done"),
    [(True, 1.0, True), (False, 1.0, True), ("never", 1.0, False), ("never", 0.0, True)],
)
def test_when_a_full_search_stops(early_stopping: Any, length_penalty: float, is_done: bool) -> None:
    settings = GenerationSettings(num_beams=2, length_penalty=length_penalty, early_stopping=early_stopping)
    beams = Beams(settings, Limits(10, frozenset({8, 9})))
    ended = [Continuation(-1.0, 0, 9), Continuation(-1.2, 0, 8)]
    beams.advance([*ended, Continuation(-3.0, 0, 4), Continuation(-3.5, 0, 5)])
    assert beams.is_done == is_done and beams.hypotheses == [((9,), -1.0), ((8,), -1.2)]
