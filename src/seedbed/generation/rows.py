"""The rows that an engine runs: who waits, who is let in, what each has to read, and their decode state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.base.errors import UsageError
from seedbed.generation import beam
from seedbed.generation.answer import Answer
from seedbed.models.family import Network
from seedbed.nn.layout import Layout
from seedbed.nn.state import DecodeState


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off, and leave every part as it was found."""
    training = [part for part in module.modules() if part.training] if module.training else []
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@dataclass(eq=False, slots=True)
class Row:
    """A row of the decode state: the tokens that it has not read yet, and the answers that come of it.

    A row of several answers reads what they share, the prompt but its last token; then each gets a copy. A
    beam search has neighbouring rows from the start, of which the first alone reads the prompt.
    """

    pending: Sequence[int]
    answers: list[Answer]
    capacity: int  # tokens that it may come to have
    beams: beam.Beams | None = None

    @property
    def is_shared(self) -> bool:
        """Several answers come of it, to be drawn apart."""
        return len(self.answers) > 1 and self.beams is None

    @property
    def num_rows(self) -> int:
        """Rows that a waiting one will need."""
        return len(self.answers) if self.beams is None else self.beams.num_beams

    @property
    def source_ids(self) -> tuple[int, ...]:
        """What the encoder reads."""
        return self.answers[0].request.source_ids


class Rows:
    """The rows of one network that run together, in the order of their places in its decode state.

    At most `max_rows` run, and as few as keep rows x the longest one's tokens (its source's included) within
    `max_state_tokens`; others wait in the order they came. A pass reads at most `chunk_tokens` tokens of
    prompts and as many of sources (more for a single source) beside one token for each running answer.
    """

    def __init__(self, module: Network, *, max_rows: int, max_state_tokens: int, chunk_tokens: int) -> None:
        for name, value in (("max_rows", max_rows), ("chunk_tokens", chunk_tokens)):
            if value < 1:
                raise UsageError(f"{name}={value} is not allowed: an engine needs at least 1 to advance")
        self.module = module
        self.running: list[Row] = []
        self._max_rows, self._max_state_tokens, self._chunk_tokens = max_rows, max_state_tokens, chunk_tokens
        self._device = module.device
        self._queue: deque[Row] = deque()
        self._state: DecodeState | None = None
        self._capacity = self._longest = 0  # tokens that a row may have; those and its source's
        self._drawn: Tensor | None = None  # (rows,) what the last step drew, if each row drew and all go on

    @property
    def is_busy(self) -> bool:
        """Some row runs or waits."""
        return bool(self.running or self._queue)

    def add(self, row: Row) -> None:
        """Let a row wait for its turn."""
        self._queue.append(row)

    def fill(self) -> None:
        """Give answers that are drawn apart now a row each, then take waiting rows in: as room allows."""
        self._split()
        self._admit()

    def read(self) -> tuple[list[Row], Tensor]:
        """Read the rows' next tokens -> the rows that draw now, and their last hidden states (R, M)."""
        assert self._state is not None
        if self._drawn is not None:
            layout = self._state.layout([1] * len(self.running))
            return self.running, self.module.extend(self._state, self._drawn, layout)
        budget, counts, ids = self._chunk_tokens, list[int](), list[int]()
        for row in self.running:
            count = len(row.pending)
            if count > 1:  # a prompt
                count = min(count, budget)
                budget -= count
            counts.append(count)
            ids += row.pending[:count]
            row.pending = row.pending[count:]
        if not ids:
            return [], torch.empty(0)
        layout = self._state.layout(counts)
        hidden = self.module.extend(self._state, torch.tensor(ids, device=self._device), layout)
        ends = list(accumulate(counts))
        at = [r for r, row in enumerate(self.running) if counts[r] and not row.pending and not row.is_shared]
        if at and len(at) < len(ids):
            hidden = hidden[torch.tensor([ends[r] - 1 for r in at], device=self._device)]
        return [self.running[r] for r in at], hidden

    def keep_drawn(self, tokens: Tensor) -> None:
        """Take in the tokens (R,) that rows drew, on their device: read next if all rows drew and stay."""
        self._drawn = tokens if len(tokens) == len(self.running) else None

    def select(self, rows: list[Row], sources: Sequence[int]) -> None:
        """Row i becomes `rows[i]`, with the state that row sources[i] has."""
        if len(rows) == len(self.running) and list(sources) == list(range(len(rows))):
            self.running = rows
            return
        assert self._state is not None
        self._state.select(sources)
        self.running, self._drawn = rows, None

    def drop(self) -> None:
        """Let the rows of finished answers go."""
        kept = [r for r, row in enumerate(self.running) if row.answers and not row.answers[0].is_finished]
        if len(kept) == len(self.running):
            return
        if kept:
            self.select([self.running[r] for r in kept], kept)
        else:
            self.running, self._state, self._drawn = [], None, None
            self._capacity = self._longest = 0

    def withdraw(self) -> None:
        """Take cancelled answers out of all rows, and let go the rows that have none left."""
        for row in chain(self._queue, self.running):
            self._withdraw(row)
        self._queue = deque(row for row in self._queue if row.answers)
        self.drop()

    def _room(self, capacity: int) -> int:
        """Rows that may run together when the longest has so many tokens."""
        return max(1, min(self._max_rows, self._max_state_tokens // capacity))

    def _split(self) -> None:
        """Give the answers of each shared row that has read its part a row each, as far as there is room."""
        ready = [row for row in self.running if row.is_shared and not row.pending]
        if not ready:
            return
        rows, sources = list(self.running), list(range(len(self.running)))
        for row in ready:
            room = self._room(self._longest) - len(rows)
            if room <= 0 and len(ready) == len(self.running):
                room = 1  # nothing else runs that could make room
            # Copies come last, so that rows keep the order of their places in the state.
            copies, row.answers = row.answers[: max(0, room)], row.answers[max(0, room) :]
            if not row.answers:
                row.answers.append(copies.pop())
            if not row.is_shared:
                row.pending = row.answers[0].request.prompt_ids[-1:]
            for answer in copies:
                rows.append(Row(answer.request.prompt_ids[-1:], [answer], row.capacity))
                sources.append(self.running.index(row))
        self.select(rows, sources)

    def _admit(self) -> None:
        """Take waiting rows in, in the order they came, as far as there is room for their answers."""
        if not self._queue:
            return
        admitted: list[Row] = []
        load = sum(len(row.answers) if row.is_shared else 1 for row in self.running)
        capacity, longest, budget = self._capacity, self._longest, self._chunk_tokens
        while self._queue:
            row = self._queue[0]
            num_source = len(row.source_ids)
            longer = max(longest, row.capacity + num_source)
            is_full = load > 0 and load + row.num_rows > self._room(longer)
            if is_full or (admitted and num_source > budget):
                break
            admitted.append(self._queue.popleft())
            load, longest, budget = load + row.num_rows, longer, budget - num_source
            capacity = max(capacity, row.capacity)
        if not admitted:
            return
        self._longest = longest
        self._reserve(min(load, self._room(longest)), capacity)
        assert self._state is not None
        self._state.join(self._start(admitted))
        for row in admitted:
            self.running.append(row)
            if row.beams is not None:
                resting = range(1, row.beams.num_beams)
                self.running += [Row((), row.answers, row.capacity, row.beams) for _ in resting]
        self._drawn = None

    def _start(self, rows: Sequence[Row]) -> DecodeState:
        """The state of new rows, with what an encoder makes of their sources; a search's rows share it."""
        sources: dict[str, Any] = {}
        if rows[0].source_ids:  # a network reads one with every request or with none
            ids = torch.tensor(list(chain(*(row.source_ids for row in rows))), device=self._device)
            layout = Layout.of([len(row.source_ids) for row in rows], device=self._device)
            sources = {"source": ids, "source_layout": layout}
        with evaluating(self.module):
            state: DecodeState = self.module.start(len(rows), 1, **sources)
        if any(row.beams is not None for row in rows):
            num_rows = [1 if row.beams is None else row.beams.num_beams for row in rows]
            state.select([r for r, num in enumerate(num_rows) for _ in range(num)])
        return state

    def _reserve(self, num_rows: int, capacity: int) -> None:
        """Make room for rows of `capacity` tokens: a larger state takes in what a too small one holds."""
        if self._state is not None and capacity <= self._capacity:
            return
        state: DecodeState = self.module.start(num_rows, capacity)
        state.select([])
        if self._state is not None:
            state.join(self._state)
        self._state, self._capacity = state, capacity

    def _withdraw(self, row: Row) -> None:
        """Take finished answers out of a row; what is left of a shared one may be a single answer."""
        was_shared, row.answers = row.is_shared, [a for a in row.answers if not a.is_finished]
        if was_shared and len(row.answers) == 1:
            row.pending = (*row.pending, row.answers[0].request.prompt_ids[-1])
