"""Greedy decoding of the 124M GPT-2 shape beside its matmuls alone and `transformers`' generate, float32."""

import tempfile
from functools import partial
from statistics import median
from typing import Any

import torch
from benchmarks.measuring import median_ratio, seconds_of
from benchmarks.training_speed import matmul_weights
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

import seedbed
from seedbed.generation.request import Request
from seedbed.generation.settings import GenerationSettings

PROMPT_TOKENS, NEW_TOKENS = 32, 32
WARMUP_ROUNDS = 1


def matmuls_step(weights: list[Tensor], num_rows: int) -> Any:
    """Return a step of the matmuls of one token of each row alone."""
    generator = torch.Generator().manual_seed(0)
    x = {d_in: torch.randn(num_rows, d_in, generator=generator) for _, d_in in (w.shape for w in weights)}

    @torch.inference_mode()
    def step() -> None:
        for weight in weights:
            F.linear(x[weight.size(1)], weight)

    return step


def measure(batch_sizes: tuple[int, ...], *, preset: str, rounds: int) -> list[dict[str, Any]]:
    """Return for each batch size the milliseconds of a step, its ratios, and whether the tokens agree.

    The consecutive steps of one answer alternate with as many steps of matmuls alone. With `transformers`
    whole answers alternate, and a step is the time per token after the first.
    """
    lm = seedbed.new(preset, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        lm.save(folder)
        peer = GPT2LMHeadModel.from_pretrained(folder).eval()
    weights = matmul_weights(lm.module, lm.config.vocab_size)
    results = []
    for batch in batch_sizes:
        generator = torch.Generator().manual_seed(batch)
        prompts = torch.randint(lm.config.vocab_size, (batch, PROMPT_TOKENS), generator=generator)
        steps, matmuls = _steps_beside_matmuls(lm, prompts.tolist(), matmuls_step(weights, batch), rounds)
        ours, theirs, agreed = _answers_beside_transformers(lm, peer, prompts, rounds)
        results.append(
            {
                "shape": preset,
                "batch": batch,
                "tokens_per_second": batch / median(steps),
                "ours_ms": 1e3 * median(steps),
                "matmuls_ms": 1e3 * median(matmuls),
                "to_matmuls": median_ratio(steps, matmuls),
                "whole_answer_ms": 1e3 * median(ours),
                "transformers_ms": 1e3 * median(theirs),
                "faster_than_transformers": median_ratio(theirs, ours),
                "same_tokens": "yes" if agreed else "no",
            }
        )
    return results


def _steps_beside_matmuls(
    lm: Any, prompts: list[list[int]], alone: Any, rounds: int
) -> tuple[list[float], list[float]]:
    """Time an answer's decoding steps and as many steps of matmuls alone after them, `rounds` times."""
    settings = GenerationSettings(max_new_tokens=NEW_TOKENS + 2, temperature=0.0, eos_ids=())
    steps, matmuls = [], []
    for _ in range(rounds):
        engine = lm.engine()
        for prompt in prompts:
            engine.submit(Request(tuple(prompt), settings))
        engine.step()  # the prompts
        engine.step()  # the first step prepares the fast path
        steps += [seconds_of(engine.step) for _ in range(NEW_TOKENS)]
        matmuls += [seconds_of(alone) for _ in range(NEW_TOKENS)]
    return steps, matmuls


def _answers_beside_transformers(
    lm: Any, peer: Any, prompts: Tensor, rounds: int
) -> tuple[list[float], list[float], bool]:
    """Return the seconds per token after the first, ours and theirs, and whether the tokens are the same."""
    lists, mask, found = prompts.tolist(), torch.ones_like(prompts), {}

    def ours(count: int) -> None:
        found["ours"] = [list(a.token_ids) for a in lm.generate(lists, count, temperature=0.0, eos_ids=())]

    def theirs(count: int) -> None:
        settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        answers = peer.generate(prompts, attention_mask=mask, **settings)
        found["theirs"] = answers[:, PROMPT_TOKENS:].tolist()

    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + WARMUP_ROUNDS):
        for call, times in zip((ours, theirs), seconds, strict=True):
            first, whole = seconds_of(partial(call, 1)), seconds_of(partial(call, 1 + NEW_TOKENS))
            if number >= WARMUP_ROUNDS:
                times.append((whole - first) / NEW_TOKENS)
    return *seconds, found["ours"] == found["theirs"]
