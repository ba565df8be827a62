"""Rows that begin alike have the scores of rows that are read whole, for every kind of decoder."""

import random

import pytest
import torch
from tests.models.reference import randomize, tiny

import seedbed
from seedbed.generation import shared
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.request import Request
from seedbed.generation.rows import evaluating
from seedbed.generation.scoring import Pair, score_rows
from seedbed.generation.settings import GenerationSettings
from seedbed.generation.shared import score_shared, shared_ids, shared_tokens

DECODERS = ("gpt2", "llama", "mistral", "bloom", "palm", "gemma", "qwen3", "lstm", "gru")


def pairs(seed: int, *, num_shared: int, vocab_size: int) -> list[Pair]:
    """Prompts that begin alike, each with two or three completions of 0 to 4 tokens."""
    choose = random.Random(seed)

    def ids(size: int) -> list[int]:
        return [choose.randrange(vocab_size) for _ in range(size)]

    prefix, found = ids(num_shared), list[Pair]()
    for _ in range(7):
        before = prefix + ids(choose.randint(1, 6))
        found += [(before, ids(size)) for size in (1, 1, choose.randint(0, 4))]
    choose.shuffle(found)
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_the_scores_are_those_of_whole_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(name)
    module = seedbed.new(config).module
    randomize(module)
    for seed, num_shared in ((0, 5), (1, 1), (2, 0)):
        rows = pairs(seed, num_shared=num_shared, vocab_size=config.vocab_size)
        for limit in (1 << 28, 1):  # all rows at once, and one by one
            monkeypatch.setattr(shared, "STATE_BYTES", limit)
            with evaluating(module):
                expected, found = score_rows(module, rows), score_shared(module, rows, num_shared)
            assert [score.token_ids for score in found] == [score.token_ids for score in expected]
            for one, other in zip(found, expected, strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
                assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


def test_what_all_rows_begin_with() -> None:
    assert shared_tokens([([1, 2, 3], [4]), ([1, 2, 5], [6])]) == 2
    assert shared_tokens([([1, 2, 3], [4]), ([1, 2, 3], [6])]) == 2  # the last is read for each
    assert shared_tokens([([1, 2, 3], [4]), ([1], [6])]) == 0
    assert shared_tokens([([1, 2], [4]), ([3, 2], [6])]) == 0


def test_examples_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `score_batch` does where at least MIN_SHARED tokens are shared."""
    module = seedbed.new(tiny("gpt2")).module
    randomize(module)
    read, extend = [0], module.extend

    def counted(state: object, ids: torch.Tensor, layout: object) -> torch.Tensor:
        read[0] += len(ids)
        return extend(state, ids, layout)  # type: ignore[arg-type, no-any-return]

    monkeypatch.setattr(module, "extend", counted)
    prefix = [i % 7 for i in range(shared.MIN_SHARED)]
    rows = [([*prefix, 1 + n, 2], [label]) for n in range(4) for label in (3, 4)]
    expected = [score_rows(module.eval(), [row])[0].logprob for row in rows]
    found = LanguageModel(module).score_batch(rows)
    assert [one.logprob for one in found] == pytest.approx(expected, abs=1e-4)
    assert read[0] == len(prefix) + 4 * 2


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("num_samples", [1, 3])
def test_answers_after_a_prefix_that_is_read_once(name: str, num_samples: int) -> None:
    """Each token is one that the whole prompt makes the most likely; a few rows at a time."""
    config = tiny(name)
    lm = LanguageModel(seedbed.new(config).module)
    randomize(lm.module)
    choose = random.Random(2)
    prefix = [choose.randrange(config.vocab_size) for _ in range(7)]
    prompts = [prefix + [choose.randrange(config.vocab_size) for _ in range(n)] for n in (1, 3, 2, 1)]
    prompts += [prefix, prompts[0][1:], prompts[1]]
    how = {"temperature": 0.0, "eos_ids": ()}
    found = {}
    for prefix_ids in ((), tuple(prefix)):
        engine = lm.engine(prefix_ids=prefix_ids, max_rows=3, chunk_tokens=4)
        settings = lm.completed(GenerationSettings.of(6, how | {"num_samples": num_samples}))
        answers = [engine.submit(Request(tuple(prompt), settings)) for prompt in prompts]
        while engine.is_busy:
            engine.step()
        found[prefix_ids] = [[one.completion().token_ids for one in several] for several in answers]
    assert found[()] == found[tuple(prefix)]


def test_prompts_that_begin_alike_are_answered_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(seedbed.new(tiny("llama")).module)
    randomize(lm.module)
    vocab_size = lm.config.vocab_size
    monkeypatch.setattr(shared, "MIN_SHARED", 4)
    prompts = [[*range(1, 6), n % vocab_size] for n in range(5)]
    assert shared_ids([Request(tuple(one), GenerationSettings(max_new_tokens=1)) for one in prompts]) == (
        *range(1, 6),
    )
    together = lm.generate(prompts, 6, temperature=0.0, eos_ids=())
    alone = [lm.generate(prompt, 6, temperature=0.0, eos_ids=()) for prompt in prompts]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
