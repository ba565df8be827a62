"""The rows that an engine runs: their order, the tokens that each reads next, and their decode state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor, nn

from seedbed.base.errors import UsageError
from seedbed.base.hardware import memory
from seedbed.base.units import bytes_text
from seedbed.generation import beam
from seedbed.generation.answer import Answer
from seedbed.generation.scoring import source_inputs
from seedbed.models.family import Network
from seedbed.nn.config import ModelConfig
from seedbed.nn.state import DecodeState

FEW_ROWS = 64  # whose memory is not looked at
ANSWER_BYTES = 4096  # of an answer's own objects


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off, and restore the mode of every part afterwards."""
    training = [part for part in module.modules() if part.training] if module.training else []
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def state_bytes(module: Network, num_tokens: int) -> int:
    """The bytes of one row's decode state of so many tokens."""
    config, size = module.config, module.dtype.itemsize
    if isinstance(config, ModelConfig):
        return 2 * config.num_layers * config.kv_heads * config.d_head * num_tokens * size
    return 2 * config.num_layers * config.d_model * size


def require_memory(module: Network, name: str, num_rows: int, *, num_tokens: int) -> None:
    """Refuse with a UsageError more rows at once than the memory has room for, each of so many tokens."""
    if num_rows <= FEW_ROWS:
        return
    # The logits and their order beside it.
    row_bytes = state_bytes(module, num_tokens) + 2 * 4 * module.config.vocab_size + ANSWER_BYTES
    free = memory()[1] if module.device.type == "cpu" else torch.cuda.mem_get_info(module.device)[0]
    if num_rows * row_bytes > free:
        raise UsageError(
            f"{name}={num_rows} needs about {bytes_text(num_rows * row_bytes)} for {num_tokens} tokens each, "
            f"and {bytes_text(free)} are free; give at most {max(1, free // row_bytes)}"
        )


@dataclass(eq=False, slots=True)
class Row:
    """A row of the decode state: the tokens that it has not read yet, and its answers.

    A row of several answers reads the prompt but its last token; then each answer gets a copy. A beam search
    has neighbouring rows from the start, of which the first alone reads the prompt.
    """

    pending: Sequence[int]
    answers: list[Answer]
    capacity: int  # its maximum number of tokens
    beams: beam.Beams | None = None
    has_prefix: bool = False  # it begins with the tokens that Rows have read, and they are not pending

    @property
    def is_shared(self) -> bool:
        """Several answers will be sampled from it separately."""
        return len(self.answers) > 1 and self.beams is None

    @property
    def num_rows(self) -> int:
        """Rows that it will need once it is admitted."""
        return len(self.answers) if self.beams is None else self.beams.num_beams

    @property
    def source_ids(self) -> tuple[int, ...]:
        """The encoder's input."""
        return self.answers[0].request.source_ids


class Rows:
    """The rows of one network that run together, in the order of their places in its decode state.

    At most `max_rows` run, and as few as keep rows x the longest one's tokens (its source's included) within
    `max_state_tokens`; others wait, first come, first served. A pass reads at most `chunk_tokens` tokens of
    prompts and as many of sources (more for a single source) beside one token per running answer. The
    `prefix` is read once, and its state copied to each row that begins with it.
    """

    def __init__(
        self,
        module: Network,
        *,
        max_rows: int = 64,
        max_state_tokens: int = 1 << 14,
        chunk_tokens: int = 512,
        prefix: Sequence[int] = (),
    ) -> None:
        for name, value in (("max_rows", max_rows), ("chunk_tokens", chunk_tokens)):
            if value < 1:
                raise UsageError(f"{name}={value} is not allowed: an engine needs at least 1 to advance")
        self.module = module
        self.running: list[Row] = []
        self._max_rows, self._max_state_tokens, self._chunk_tokens = max_rows, max_state_tokens, chunk_tokens
        self._device = module.device
        self._queue: deque[Row] = deque()
        self._prefix = prefix
        self._prefix_state: DecodeState | None = None
        self._state: DecodeState | None = None
        self._capacity = self._longest = 0  # maximum tokens of a row; with its source's
        self._sampled: Tensor | None = None  # (rows,) of the last step, if each row sampled and all continue

    @property
    def is_busy(self) -> bool:
        """Some row runs or waits."""
        return bool(self.running or self._queue)

    def add(self, row: Row) -> None:
        """Queue a row."""
        self._queue.append(row)

    def admit(self) -> None:
        """Give shared rows' answers a row each, then start waiting ones in order, as the limits allow."""
        self._split_shared()
        if not self._queue:
            return
        admitted: list[Row] = []
        load = sum(len(row.answers) if row.is_shared else 1 for row in self.running)
        capacity, longest, budget = self._capacity, self._longest, self._chunk_tokens
        while self._queue:
            row = self._queue[0]
            num_source = len(row.source_ids)
            longer = max(longest, row.capacity + num_source)
            is_full = load > 0 and load + row.num_rows > self._max_running(longer)
            if is_full or (admitted and num_source > budget):
                break
            admitted.append(self._queue.popleft())
            load, longest, budget = load + row.num_rows, longer, budget - num_source
            capacity = max(capacity, row.capacity)
        if not admitted:
            return
        self._longest = longest
        if self._state is None or capacity > self._capacity:  # a larger state takes over what it held
            state: DecodeState = self.module.start(min(load, self._max_running(longest)), capacity)
            state.select([])
            if self._state is not None:
                state.join(self._state)
            self._state, self._capacity = state, capacity
        self._join(admitted)
        for row in admitted:
            self.running.append(row)
            if row.beams is not None:
                idle = range(1, row.beams.num_beams)
                self.running += [Row((), row.answers, row.capacity, row.beams) for _ in idle]
        self._sampled = None

    def read(self) -> tuple[list[Row], Tensor]:
        """Read the rows' next tokens -> the rows to sample from, and their last hidden states (R, M)."""
        assert self._state is not None
        if self._sampled is not None:
            layout = self._state.layout([1] * len(self.running))
            return self.running, self.module.extend(self._state, self._sampled, layout)
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

    def keep_sampled(self, tokens: Tensor) -> None:
        """Keep sampled tokens (R,) on their device, to be read next if all rows sampled and continue."""
        self._sampled = tokens if len(tokens) == len(self.running) else None

    def select(self, rows: list[Row], sources: Sequence[int]) -> None:
        """Row i becomes `rows[i]`, with the state of row sources[i]."""
        if len(rows) == len(self.running) and list(sources) == list(range(len(rows))):
            self.running = rows
            return
        assert self._state is not None
        self._state.select(sources)
        self.running, self._sampled = rows, None

    def remove_finished(self) -> None:
        """Remove the running rows whose answers are finished."""
        kept = [r for r, row in enumerate(self.running) if row.answers and not row.answers[0].is_finished]
        if len(kept) == len(self.running):
            return
        if kept:
            self.select([self.running[r] for r in kept], kept)
        else:
            self.running, self._state, self._sampled = [], None, None
            self._capacity = self._longest = 0

    def remove_cancelled(self) -> None:
        """Remove cancelled answers from all rows, and the rows without any left."""
        for row in chain(self._queue, self.running):
            was_shared, row.answers = row.is_shared, [a for a in row.answers if not a.is_finished]
            if was_shared and len(row.answers) == 1:  # it reads the last token of its prompt itself
                row.pending = (*row.pending, row.answers[0].request.prompt_ids[-1])
        self._queue = deque(row for row in self._queue if row.answers)
        self.remove_finished()

    def _max_running(self, capacity: int) -> int:
        return max(1, min(self._max_rows, self._max_state_tokens // capacity))

    def _split_shared(self) -> None:
        """Give the answers of each shared row that has read its part a row each, within the limits."""
        ready = [row for row in self.running if row.is_shared and not row.pending]
        if not ready:
            return
        rows, sources = list(self.running), list(range(len(self.running)))
        for row in ready:
            num_free = self._max_running(self._longest) - len(rows)
            if num_free <= 0 and len(ready) == len(self.running):
                num_free = 1  # no other row runs that could finish first
            # Copies come last, so that rows keep the order of their places in the state.
            copies, row.answers = row.answers[: max(0, num_free)], row.answers[max(0, num_free) :]
            if not row.answers:
                row.answers.append(copies.pop())
            if not row.is_shared:
                row.pending = row.answers[0].request.prompt_ids[-1:]
            for answer in copies:
                rows.append(Row(answer.request.prompt_ids[-1:], [answer], row.capacity))
                sources.append(self.running.index(row))
        self.select(rows, sources)

    def _join(self, rows: Sequence[Row]) -> None:
        """Append the states of new rows, those of a prefix copied."""
        assert self._state is not None
        if not any(row.has_prefix for row in rows):
            self._state.join(self._start(rows))
            return
        for row in rows:
            self._state.join(self._read_prefix() if row.has_prefix else self._start([row]))

    def _read_prefix(self) -> DecodeState:
        """The state of the prefix, read at the first call."""
        if self._prefix_state is None:
            state: DecodeState = self.module.start(1, len(self._prefix))
            for start in range(0, len(self._prefix), self._chunk_tokens):
                part = torch.tensor(self._prefix[start : start + self._chunk_tokens], device=self._device)
                with evaluating(self.module):
                    self.module.extend(state, part, state.layout([len(part)]))
            self._prefix_state = state
        return self._prefix_state

    def _start(self, rows: Sequence[Row]) -> DecodeState:
        """The state of new rows, with the encoder's output for their sources, which a search's rows share."""
        sources = source_inputs([row.source_ids for row in rows], self._device)
        with evaluating(self.module):
            state: DecodeState = self.module.start(len(rows), 1, **sources)
        if any(row.beams is not None for row in rows):
            num_rows = [1 if row.beams is None else row.beams.num_beams for row in rows]
            state.select([r for r, num in enumerate(num_rows) for _ in range(num)])
        return state
