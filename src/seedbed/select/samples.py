"""The batches of a rehearsal: a run's first ones, or rows as long as the context where there is no data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from statistics import median

import numpy as np

from seedbed.base.runtime import Runtime
from seedbed.data.batch import Batch
from seedbed.data.loader import Loader, MixturePart, micro_batches
from seedbed.data.objective import Objective
from seedbed.data.records import RecordSource
from seedbed.select.compute import Shares
from seedbed.training.settings import TrainingSettings

SAMPLED_STEPS, MAX_ROUNDS = 32, 25
SAMPLED_TOKENS = 2**21  # fewer steps of more than 65,536 tokens are sampled


class SampledBatches:
    """The loader's first batches for this rank, and the seconds per step to sample them."""

    def __init__(self, mixture: Sequence[MixturePart], training: TrainingSettings, runtime: Runtime) -> None:
        self._loader = partial(Loader, mixture, seed=training.seed)
        loader = self._loader(batch_tokens=training.batch_tokens)
        seconds, self.steps = list[float](), list[list[Batch]]()
        num_sampled = 0
        while len(self.steps) < SAMPLED_STEPS and num_sampled < SAMPLED_TOKENS:
            started = time.perf_counter()
            self.steps.append(
                micro_batches(
                    loader.next_step(),
                    micro_batch_tokens=training.micro_batch_tokens,
                    rank=runtime.rank,
                    world_size=runtime.world_size,
                )
            )
            seconds.append(time.perf_counter() - started)
            num_sampled += training.batch_tokens
        self.seconds = median(seconds)
        self._all = [batch for step in self.steps for batch in step]
        num_source = sum(0 if batch.source_ids is None else len(batch.source_ids) for batch in self._all)
        num_tokens = sum(batch.num_tokens for batch in self._all)
        num_targets = sum(batch.num_targets for batch in self._all)
        self.shares = Shares(num_source / num_tokens, num_targets / num_tokens)
        self.step_tokens = num_tokens / len(self.steps)
        self.num_micro_batches = max(map(len, self.steps))
        self.max_tokens = max(batch.num_tokens for batch in self._all)

    def batches(self, num_tokens: int) -> list[Batch]:
        """Some batches, of at most `num_tokens`, the largest first."""
        found = [*self._all]
        if num_tokens < self.max_tokens:
            loader = self._loader(batch_tokens=num_tokens)
            found = [micro_batches(loader.next_step())[0] for _ in range(SAMPLED_STEPS)]
        largest = max(range(len(found)), key=lambda i: found[i].num_tokens)
        return [found.pop(largest), *found[:MAX_ROUNDS]]


def even_mixture(objective: Objective, context_tokens: int, vocab_size: int) -> list[MixturePart]:
    """A mixture for an objective when nothing is known of the data."""
    return [
        MixturePart(even_source(part, context_tokens, vocab_size), part, share)
        for part, share in objective.mixture()
    ]


def even_source(objective: Objective, context_tokens: int, vocab_size: int) -> RecordSource:
    """Records that fill the context, for when nothing is known of the data; answers take a quarter of it."""

    def ids(num_tokens: int) -> list[int]:
        return [position % vocab_size for position in range(num_tokens)]

    if objective.learns_from == "text":
        return RecordSource([ids(objective.record_tokens(context_tokens) + objective.overlap)])
    whole = {"tags": context_tokens, "conversations": context_tokens + 1}
    num_answer = (whole | {"labels": 1}).get(objective.learns_from, context_tokens // 4)
    num_input = int(objective.max_input_tokens(np.array([num_answer]), context_tokens)[0])
    are_labels = objective.learns_from != "pairs"
    answer = [1] * min(num_input, num_answer) if are_labels else ids(num_answer)
    return RecordSource([ids(num_input)], answers=[answer])
