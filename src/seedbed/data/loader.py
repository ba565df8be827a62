"""The loader: records of a mixture to steps, and a step to the micro-batches of each rank."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, NamedTuple

from seedbed.base.errors import CheckpointError, ConfigError
from seedbed.data.batch import Batch, Example, collate, longest_first
from seedbed.data.objective import Objective
from seedbed.data.records import Source


class MixturePart(NamedTuple):
    """A source, its objective, and its weight: its share of the tokens relative to the other parts."""

    source: Source
    objective: Objective
    weight: float = 1.0


@dataclass(kw_only=True)
class Position:
    """The position in one part: the next record, and the number of tokens read so far."""

    pass_index: int = 0
    index: int = 0
    num_tokens: int = 0


class Loader:
    """Yields the global batch of each step: all ranks read the same one and take their part of it.

    Its state is one position per part, so the steps after a resume are those of an uninterrupted run.
    """

    def __init__(self, mixture: Sequence[MixturePart], *, batch_tokens: int, seed: int) -> None:
        if batch_tokens < 1:
            raise ConfigError(f"batch_tokens={batch_tokens} is not allowed: a step needs 1 or more")
        if not mixture or any(not 0 < part.weight < inf for part in mixture):
            weights = [part.weight for part in mixture]
            raise ConfigError(
                f"a mixture with the weights {weights} is not allowed: give one or more above 0"
            )
        self.mixture, self.batch_tokens, self.seed = list(mixture), batch_tokens, seed
        self._move_to([Position() for _ in mixture])

    def _move_to(self, positions: list[Position]) -> None:
        self.positions = positions
        self._upcoming: list[Example | None] = [None] * len(positions)  # did not fit in the last step
        self._readers = [
            part.source.records(at.pass_index, at.index)
            for part, at in zip(self.mixture, positions, strict=True)
        ]

    def next_step(self) -> list[Example]:
        """The examples of the next step: at least one, and up to `batch_tokens` input tokens."""
        examples: list[Example] = []
        left = self.batch_tokens
        while True:
            number = self._next_part()
            example = self._upcoming[number] or self._read(number)
            num_tokens = example.num_tokens
            if examples and num_tokens > left:
                self._upcoming[number] = example
                return examples
            self._upcoming[number] = None
            examples.append(example)
            left -= num_tokens
            position = self.positions[number]
            position.index += 1
            position.num_tokens += num_tokens

    def _next_part(self) -> int:
        """The part that is furthest behind its share of the tokens, the first of equals."""
        if len(self.mixture) == 1:
            return 0
        shares = [at.num_tokens / part.weight for at, part in zip(self.positions, self.mixture, strict=True)]
        return shares.index(min(shares))

    def _read(self, number: int) -> Example:
        """The example at the position of a part, which begins the next pass at the end of one."""
        part, position = self.mixture[number], self.positions[number]
        record = next(self._readers[number], None)
        if record is None:
            position.pass_index, position.index = position.pass_index + 1, 0
            self._readers[number] = part.source.records(position.pass_index, 0)
            record = next(self._readers[number])
        return part.objective.example(record, self.seed)

    def state_dict(self) -> dict[str, Any]:
        """The position of each part, as JSON."""
        return {"parts": [asdict(position) for position in self.positions]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the last record that was read when `state` was saved."""
        positions = [Position(**part) for part in state["parts"]]
        if len(positions) != len(self.mixture):
            raise CheckpointError(
                f"the checkpoint's mixture has {len(positions)} parts, this one {len(self.mixture)}; "
                "resume with the same data, or start a new run"
            )
        self._move_to(positions)


def one_pass(
    source: Source, objective: Objective, *, batch_tokens: int, seed: int = 0
) -> Iterator[tuple[list[int], list[Example]]]:
    """Pass 0 over a source for validation: each record once, in steps of at most `batch_tokens` inputs.

    A step has the numbers of its records and their examples.
    """
    numbers: list[int] = []

    def examples() -> Iterator[Example]:
        for record in source.records(0, 0):
            numbers.append(record.key[1])
            yield objective.example(record, seed)

    num_read = 0
    for group in _groups(examples(), batch_tokens):
        yield numbers[num_read : num_read + len(group)], group
        num_read += len(group)


def _groups(examples: Iterable[Example], max_tokens: float) -> Iterator[list[Example]]:
    """Consecutive examples in groups of at most `max_tokens` tokens; a longer one is a group of its own."""
    group: list[Example] = []
    num_tokens = 0
    for example in examples:
        if group and num_tokens + example.num_tokens > max_tokens:
            yield group
            group, num_tokens = [], 0
        group.append(example)
        num_tokens += example.num_tokens
    yield group


def micro_batches(
    examples: Sequence[Example], *, micro_batch_tokens: int = 0, rank: int = 0, world_size: int = 1
) -> list[Batch]:
    """The part of a step that one rank computes, in batches of at most `micro_batch_tokens` inputs.

    0 means one batch; a single longer record is a batch of its own. The parts of all ranks are the step, and
    differ by at most the tokens of one record. Errors: ConfigError for fewer records than ranks, because an
    idle rank would block the others.
    """
    rows = longest_first(examples)
    if world_size > 1:
        if len(rows) < world_size:
            raise ConfigError(
                f"a step of {len(rows)} records is too small for {world_size} ranks; "
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
    return [collate(group) for group in _groups(rows, micro_batch_tokens or inf)]
