"""The loader deals the records of a mixture into steps, and the steps into the micro-batches of each rank."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, NamedTuple

from seedbed.base.errors import CheckpointError, ConfigError
from seedbed.data.batch import Batch, Example, collate, longest_first
from seedbed.data.objective import Objective
from seedbed.data.records import Source


class MixturePart(NamedTuple):
    """A source, what is learnt from it, and its share of the tokens beside the other parts."""

    source: Source
    objective: Objective
    weight: float = 1.0


@dataclass(kw_only=True)
class Position:
    """Where the loader stands in one part: the next record, and the input tokens dealt so far."""

    pass_index: int = 0
    index: int = 0
    num_tokens: int = 0


class Loader:
    """Deals the global batch of each step; all ranks deal the same one and take their part of it.

    Its state is one position a part, so that a step is the same whether or not the process was new before it.
    """

    def __init__(self, mixture: Sequence[MixturePart], *, batch_tokens: int, seed: int) -> None:
        if batch_tokens < 1:
            raise ConfigError(f"batch_tokens={batch_tokens}: a step needs at least one token")
        if not mixture or any(not 0 < part.weight < inf for part in mixture):
            weights = [part.weight for part in mixture]
            raise ConfigError(
                f"a mixture with the weights {weights}: give one part or more, each a weight above 0"
            )
        self.mixture, self.batch_tokens, self.seed = list(mixture), batch_tokens, seed
        self._stand_at([Position() for _ in mixture])

    def _stand_at(self, positions: list[Position]) -> None:
        self.positions = positions
        self._upcoming: list[Example | None] = [None] * len(positions)  # read, and too long for the last step
        self._readers = [
            part.source.records(at.pass_index, at.index)
            for part, at in zip(self.mixture, positions, strict=True)
        ]

    def next_step(self) -> list[Example]:
        """The examples of the next step: as many as fit in `batch_tokens` input tokens, at least one."""
        examples: list[Example] = []
        room = self.batch_tokens
        while True:
            number = self._most_behind()
            example = self._upcoming[number] or self._read(number)
            num_tokens = example.num_tokens
            if examples and num_tokens > room:
                self._upcoming[number] = example
                return examples
            self._upcoming[number] = None
            examples.append(example)
            room -= num_tokens
            position = self.positions[number]
            position.index += 1
            position.num_tokens += num_tokens

    def _most_behind(self) -> int:
        """The part that lags most behind its share of the tokens, the first of equals."""
        if len(self.mixture) == 1:
            return 0
        shares = [at.num_tokens / part.weight for at, part in zip(self.positions, self.mixture, strict=True)]
        return shares.index(min(shares))

    def _read(self, number: int) -> Example:
        """The example at a part's position, which moves to the next pass where one ends."""
        part, position = self.mixture[number], self.positions[number]
        record = next(self._readers[number], None)
        if record is None:
            position.pass_index, position.index = position.pass_index + 1, 0
            self._readers[number] = part.source.records(position.pass_index, 0)
            record = next(self._readers[number])
        return part.objective.example(record, self.seed)

    def state_dict(self) -> dict[str, Any]:
        """Where each part stands, as JSON."""
        return {"parts": [asdict(position) for position in self.positions]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the record after the last one dealt when `state` was taken."""
        positions = [Position(**part) for part in state["parts"]]
        if len(positions) != len(self.mixture):
            raise CheckpointError(
                f"the checkpoint's mixture has {len(positions)} parts, this one {len(self.mixture)}; "
                "resume with the same data, or start a new run"
            )
        self._stand_at(positions)


def one_pass(
    source: Source, objective: Objective, *, batch_tokens: int, seed: int = 0
) -> Iterator[list[Example]]:
    """Pass 0 over a source, each record once, in steps of at most `batch_tokens` inputs: for validation."""
    examples: list[Example] = []
    num_tokens = 0
    for record in source.records(0, 0):
        example = objective.example(record, seed)
        if examples and num_tokens + example.num_tokens > batch_tokens:
            yield examples
            examples, num_tokens = [], 0
        examples.append(example)
        num_tokens += example.num_tokens
    yield examples


def micro_batches(
    examples: Sequence[Example], *, micro_batch_tokens: int = 0, rank: int = 0, world_size: int = 1
) -> list[Batch]:
    """The part of a step that one rank computes, in batches of at most `micro_batch_tokens` inputs.

    0 means one batch; a single longer record is a batch of its own. The ranks' parts joined are the step,
    and differ by at most one record's tokens. Fewer records than ranks is a ConfigError: an idle rank would
    hang the others.
    """
    rows = longest_first(examples)
    if world_size > 1:
        if len(rows) < world_size:
            raise ConfigError(
                f"a step of {len(rows)} records cannot be dealt to {world_size} ranks; "
                "raise training.batch_tokens or lower training.context_tokens"
            )
        loads = [(0, each) for each in range(world_size)]  # a heap: the lightest rank takes the next row
        mine: list[Example] = []
        for row in rows:
            load, lightest = heapq.heappop(loads)
            heapq.heappush(loads, (load + row.num_tokens, lightest))
            if lightest == rank:
                mine.append(row)
        rows = mine
    if not micro_batch_tokens:
        return [collate(rows)]
    parts: list[list[Example]] = [[]]
    room = micro_batch_tokens
    for row in rows:
        if parts[-1] and row.num_tokens > room:
            parts.append([])
            room = micro_batch_tokens
        parts[-1].append(row)
        room -= row.num_tokens
    return [collate(part) for part in parts]
