"""Requests answered together have the answers of each alone, with attention and recurrence."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from seedbed.base.errors import BundleError, ConfigError, SeedbedError, UsageError
from seedbed.generation.answer import Answer
from seedbed.generation.engine import Engine
from seedbed.generation.request import Request
from seedbed.generation.sampling import position_key, request_key
from seedbed.generation.sampling import sample as sample_tokens
from seedbed.generation.settings import GenerationSettings, Sampling
from seedbed.models.family import Network
from seedbed.nn.layout import Layout
from seedbed.text.tokenizer import Tokenizer

GREEDY = GenerationSettings(max_new_tokens=10, temperature=0, seed=0)
SAMPLED = GenerationSettings(max_new_tokens=10, temperature=1.5, seed=0)
MIXED = [
    GREEDY,
    SAMPLED,
    replace(SAMPLED, temperature=0.7, top_k=20, max_new_tokens=4),
    replace(SAMPLED, top_p=0.8, seed=9),
    replace(SAMPLED, top_k=30, top_p=0.9, num_samples=3, max_new_tokens=7),
    replace(GREEDY, max_new_tokens=1, logprobs=2),
]


def prompt(seed: int, length: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def requests() -> list[Request]:
    lengths = [5, 17, 1, 9, 30, 2, 3, 1, 12, 22, 7, 4]
    return [Request(prompt(i, n), MIXED[i % len(MIXED)]) for i, n in enumerate(lengths)]


def finish(engine: Engine) -> None:
    for _ in range(2000):
        if not engine.is_busy:
            return
        engine.step()
    raise AssertionError("the engine does not come to an end")


def tokens(answers: Sequence[Answer]) -> list[list[int]]:
    return [answer.completion().token_ids for answer in answers]


def alone(module: Network, request: Request) -> list[list[int]]:
    engine = Engine(module)
    answers = engine.submit(request)
    finish(engine)
    return tokens(answers)


def by_hand(module: Network, request: Request, sample: int = 0) -> list[int]:
    """Without engine or state: the whole text again for each token."""
    settings, ids = request.settings, list(request.prompt_ids)
    key = request_key(settings.seed or 0, request.prompt_ids, sample)
    for position in range(settings.max_new_tokens):
        with torch.inference_mode():
            logits = module.output(module(torch.tensor(ids), Layout.of([len(ids)]))[-1:])
        sampling = Sampling(settings.temperature, settings.top_k, settings.top_p)
        ids += sample_tokens(logits, sampling, keys=[position_key(key, position)])[0].tolist()
    return ids[len(request.prompt_ids) :]


def test_an_answer_is_that_of_reading_the_whole_text_again_for_each_token(module: Network) -> None:
    for request in requests():
        expected = [by_hand(module, request, sample) for sample in range(request.settings.num_samples)]
        assert alone(module, request) == expected


@pytest.mark.parametrize(
    "limits", [{}, {"chunk_tokens": 4}, {"max_rows": 3}, {"max_rows": 1, "chunk_tokens": 1}]
)
def test_company_changes_no_answer(module: Network, limits: dict[str, int]) -> None:
    engine = Engine(module, **limits)
    answers = [engine.submit(request) for request in requests()]
    finish(engine)
    assert [tokens(each) for each in answers] == [alone(module, request) for request in requests()]


@pytest.mark.parametrize("limits", [{}, {"max_state_tokens": 64, "chunk_tokens": 6}])
def test_requests_join_and_leave_while_others_run(module: Network, limits: dict[str, int]) -> None:
    engine, answers = Engine(module, **limits), []
    for i, request in enumerate(requests()):
        answers.append(engine.submit(request))
        for _ in range(i % 4):
            engine.step()
    finish(engine)
    assert [tokens(each) for each in answers] == [alone(module, request) for request in requests()]
    assert not engine.step()  # nothing to do


def test_samples_differ_and_each_is_its_own(module: Network) -> None:
    request = Request(prompt(1, 20), replace(SAMPLED, num_samples=6))
    many = alone(module, request)
    assert len({tuple(sample) for sample in many}) == 6
    fewer = alone(module, replace(request, settings=replace(request.settings, num_samples=2)))
    assert fewer == many[:2]
    other_seed = alone(module, replace(request, settings=replace(request.settings, seed=1)))
    assert not set(map(tuple, many)) & set(map(tuple, other_seed))


class Counting:
    """A network that counts the tokens it reads."""

    def __init__(self, module: Network) -> None:
        self.module, self.num_read = module, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.module, name)

    def extend(self, state: object, ids: torch.Tensor, layout: Layout) -> torch.Tensor:
        self.num_read += len(ids)
        return self.module.extend(state, ids, layout)  # type: ignore[arg-type]


def test_a_shared_prompt_is_read_once(module: Network) -> None:
    counting = Counting(module)
    engine = Engine(counting)  # type: ignore[arg-type]
    engine.submit(Request(prompt(2, 30), replace(SAMPLED, num_samples=5, max_new_tokens=4)))
    finish(engine)
    assert counting.num_read == 29 + 5 + 5 * 3  # all but its last token once, then a token for each sample


def test_more_samples_than_rows_wait(module: Network) -> None:
    request = Request(prompt(3, 12), replace(SAMPLED, num_samples=7, max_new_tokens=5))
    engine = Engine(module, max_rows=3)
    answers = engine.submit(request)
    most = 0
    while engine.is_busy:
        most = max(most, len(engine.step()))
    assert most == 3
    assert tokens(answers) == alone(module, request)


def test_new_samples_without_a_seed(gpt2: Network) -> None:
    request = Request(prompt(1, 5), replace(SAMPLED, seed=None))
    assert alone(gpt2, request) != alone(gpt2, request)


def test_greedy_margins_are_far_above_rounding(gpt2: Network) -> None:
    """The tests of company assume it: a batch changes logits by less than a thousandth of the margins."""
    rows = [prompt(i, 10) for i in range(8)]
    with torch.inference_mode():
        single = torch.cat([gpt2.output(gpt2(torch.tensor(row), Layout.of([10]))[-1:]) for row in rows])
        hidden = gpt2(torch.tensor(sum(rows, ())), Layout.of([10] * 8))
        together = gpt2.output(hidden[9::10])
    best = single.topk(2).values
    margin = (best[:, 0] - best[:, 1]).min()
    assert (single - together).abs().max() * 1000 < margin


def test_the_end_token_ends_and_is_the_last(module: Network) -> None:
    request = Request(prompt(1, 6), replace(SAMPLED, max_new_tokens=30))
    free = alone(module, request)[0]
    end = free[11]
    assert end not in free[:11]
    engine = Engine(module, eos_ids=(end,))
    (own,) = engine.submit(request)
    (ignoring,) = engine.submit(replace(request, settings=replace(request.settings, eos_ids=())))
    (other,) = engine.submit(replace(request, settings=replace(request.settings, eos_ids=(end, free[3]))))
    finish(engine)
    assert (own.token_ids, own.finish_reason) == (free[:12], "stop")
    assert (ignoring.token_ids, ignoring.finish_reason) == (free, "length")
    assert (other.token_ids, other.finish_reason) == (free[: free.index(free[3]) + 1], "stop")


@pytest.mark.parametrize(("length", "num_tokens"), [(10, 38), (47, 1), (48, 1)])
def test_answers_end_with_the_context(module: Network, length: int, num_tokens: int) -> None:
    engine = Engine(module)
    (answer,) = engine.submit(Request(prompt(1, length), replace(GREEDY, max_new_tokens=60)))
    finish(engine)
    assert len(answer.token_ids) == (num_tokens if module.config.max_positions else 60)
    assert answer.finish_reason == "length"


def test_stop_texts_end_an_answer(module: Network, tokenizer: Tokenizer) -> None:
    request = Request(prompt(1, 6), replace(SAMPLED, max_new_tokens=30, eos_ids=()))
    engine = Engine(module, tokenizer)
    (free,) = engine.submit(request)
    finish(engine)
    text = free.completion().text
    assert text is not None and len(text) > 8
    stop = text[5:8]
    (answer,) = engine.submit(replace(request, settings=replace(request.settings, stop=("never", stop))))
    finish(engine)
    completion = answer.completion()
    assert completion.text == text[: text.index(stop)] and completion.finish_reason == "stop"
    assert completion.token_ids == free.token_ids[: len(completion.token_ids)]
    assert len(completion.token_ids) < 30


def test_log_probabilities_are_those_of_the_full_text(module: Network) -> None:
    request = Request(prompt(4, 9), replace(SAMPLED, top_k=5, logprobs=3))
    engine = Engine(module)
    (answer,), (silent,) = engine.submit(request), engine.submit(Request(prompt(5, 3), GREEDY))
    finish(engine)
    completion = answer.completion()
    ids = torch.tensor([*request.prompt_ids, *completion.token_ids])
    with torch.inference_mode():
        logits = module.output(module(ids, Layout.of([len(ids)])))[8:-1]
    exact = logits.double().log_softmax(-1)
    assert completion.logprobs is not None and len(completion.logprobs) == 10
    for token, row, report in zip(completion.token_ids, exact, completion.logprobs, strict=True):
        assert report.token_id == token
        assert report.logprob == pytest.approx(row[token].item(), abs=1e-4)
        best = row.topk(3)
        assert [i for i, _ in report.top] == best.indices.tolist()
        assert [value for _, value in report.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert silent.completion().logprobs is None


def test_cancelled_answers_leave_and_the_others_go_on(module: Network) -> None:
    engine = Engine(module, max_rows=4, chunk_tokens=8)
    shared = engine.submit(Request(prompt(1, 30), replace(SAMPLED, num_samples=3)))
    (running,) = engine.submit(Request(prompt(2, 3), SAMPLED))
    (waiting,) = engine.submit(Request(prompt(3, 3), SAMPLED))
    engine.step()
    for answer in (shared[0], shared[2], waiting):
        engine.cancel(answer)
    finish(engine)
    assert [a.finish_reason for a in (*shared, running, waiting)] == [
        "cancelled", "length", "cancelled", "length", "cancelled",
    ]  # fmt: skip
    assert tokens([shared[1]]) == [by_hand(module, shared[1].request, 1)]
    assert tokens([running]) == alone(module, running.request)
    engine.cancel(running)  # too late: nothing changes
    assert running.finish_reason == "length"


def test_dropout_is_off_while_generating_and_as_before_after(module: Network) -> None:
    module.train()
    parts = [part.training for part in module.modules()]
    try:
        assert alone(module, Request(prompt(1, 5), GREEDY)) == [
            by_hand(module.eval(), Request(prompt(1, 5), GREEDY))
        ]
        module.train()
        alone(module, Request(prompt(1, 5), GREEDY))
        assert [part.training for part in module.modules()] == parts
    finally:
        module.eval()


@pytest.mark.parametrize(
    ("ids", "settings", "message"),
    [
        ((), GREEDY, "the prompt has no token"),
        ((1, 300), GREEDY, "token id 300 is not in the vocabulary"),
        ((1, -1), GREEDY, "token id -1"),
        ((1,), replace(GREEDY, eos_ids=(301,)), "token id 301"),
        ((1,) * 49, GREEDY, "the prompt has 49 tokens, but the context holds 48; shorten"),
        ((1,), replace(GREEDY, stop=("x",)), "needs text, and this model has no tokenizer"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(
    gpt2: Network, ids: tuple[int, ...], settings: GenerationSettings, message: str
) -> None:
    engine = Engine(gpt2)
    with pytest.raises(SeedbedError, match=message) as error:
        engine.submit(Request(ids, settings))
    assert "\n" not in str(error.value) and not engine.is_busy


def test_an_engine_that_could_never_advance_is_refused(gpt2: Network) -> None:
    for limits in ({"max_rows": 0}, {"chunk_tokens": 0}):
        with pytest.raises(SeedbedError, match="at least 1"):
            Engine(gpt2, **limits)


def test_weights_that_are_not_finite_are_named(gpt2: Network) -> None:
    module = deepcopy(gpt2)
    with torch.no_grad():
        next(module.parameters())[3] = torch.nan
    engine = Engine(module)
    engine.submit(Request((3,), GREEDY))
    with pytest.raises(BundleError, match="not finite"):
        engine.step()


@pytest.mark.parametrize(("name", "number", "free"), [("num_samples", 2**31 - 1, 0), ("num_beams", 1024, 1)])
def test_rows_beyond_the_memory_are_refused(
    name: str, number: int, free: int, module: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2^31 - 1 answers would fill the memory with their objects alone."""
    if free:
        monkeypatch.setattr("seedbed.generation.rows.memory", lambda: (2**30, 2**20))
    settings = GenerationSettings(max_new_tokens=10, **{name: number})
    with pytest.raises(UsageError, match=rf"{name}={number} needs about .* are free; give at most \d+"):
        Engine(module).submit(Request(prompt(1, 3), settings))
    with pytest.raises(ConfigError, match=r"num_beams=1025 is not allowed: give .* from 1 to 1024"):
        GenerationSettings(num_beams=1025)
