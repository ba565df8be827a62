"""Greedy decoding of the 124M GPT-2 shape beside its bare products and `transformers`' generate, float32."""

import tempfile
from statistics import median
from typing import Any

import torch
from benchmarks.measuring import median_ratio, seconds_of
from benchmarks.training_speed import products_of
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

import seedbed

PROMPT_TOKENS, NEW_TOKENS = 32, 32
WARMUP_ROUNDS = 1


def bare_step(weights: list[Tensor], num_rows: int) -> Any:
    """The products of one token of each row and nothing else."""
    generator = torch.Generator().manual_seed(0)
    x = {d_in: torch.randn(num_rows, d_in, generator=generator) for _, d_in in (w.shape for w in weights)}

    @torch.inference_mode()
    def step() -> None:
        for weight in weights:
            F.linear(x[weight.size(1)], weight)

    return step


def measure(batch_sizes: tuple[int, ...], *, preset: str, rounds: int) -> list[dict[str, Any]]:
    """Each batch size: milliseconds of a step, its ratios to both yardsticks, whether the tokens agree.

    A step is what each token costs after the first: (all tokens - one token) / the rest.
    """
    lm = seedbed.new(preset, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        lm.save(folder)
        peer = GPT2LMHeadModel.from_pretrained(folder).eval()
    results = []
    for batch in batch_sizes:
        generator = torch.Generator().manual_seed(batch)
        prompts = torch.randint(lm.config.vocab_size, (batch, PROMPT_TOKENS), generator=generator)
        lists = prompts.tolist()
        mask = torch.ones_like(prompts)
        said: dict[str, Any] = {}

        def ours(count: int, lists: Any = lists, said: Any = said) -> None:
            answers = lm.generate(lists, count, temperature=0.0, eos_ids=())
            said["ours"] = [list(answer.token_ids) for answer in answers]

        def theirs(count: int, prompts: Any = prompts, mask: Any = mask, said: Any = said) -> None:
            settings = {
                "max_new_tokens": count,
                "min_new_tokens": count,
                "do_sample": False,
                "pad_token_id": 0,
            }
            said["transformers"] = peer.generate(prompts, attention_mask=mask, **settings)

        bare = bare_step(products_of(lm.module, lm.config.vocab_size), batch)
        seconds: dict[str, list[float]] = {"ours": [], "bare": [], "transformers": []}
        for number in range(rounds + WARMUP_ROUNDS):
            for name, call in (("ours", ours), ("transformers", theirs)):
                first = seconds_of(lambda call=call: call(1))
                step = (seconds_of(lambda call=call: call(1 + NEW_TOKENS)) - first) / NEW_TOKENS
                if number >= WARMUP_ROUNDS:
                    seconds[name].append(step)
                if name == "ours":
                    products = median(seconds_of(bare) for _ in range(NEW_TOKENS))
                    if number >= WARMUP_ROUNDS:
                        seconds["bare"].append(products)
        agreed = said["ours"] == said["transformers"][:, PROMPT_TOKENS:].tolist()
        results.append(
            {
                "shape": preset,
                "batch": batch,
                "tokens_per_second": batch / median(seconds["ours"]),
                **{f"{name}_ms": 1e3 * median(times) for name, times in seconds.items()},
                "to_bare": median_ratio(seconds["ours"], seconds["bare"]),
                "transformers_to_bare": median_ratio(seconds["transformers"], seconds["bare"]),
                "faster_than_transformers": median_ratio(seconds["transformers"], seconds["ours"]),
                "same_tokens": "yes" if agreed else "no",
            }
        )
    return results
