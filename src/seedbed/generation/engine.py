"""Requests that are answered together: a set of rows and a `step` that advances them all.

Whatever generates is a client: a batch call submits and steps until all is done, a stream takes text after
each step, a server submits while others run. What an answer is does not depend on its neighbours; a network's
logits do in their last bits, because a product of another size sums in another order, so two tokens that are
equally likely to within rounding are the one case in which company can show.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor, nn

from seedbed.base.errors import BundleError, UsageError
from seedbed.generation.answer import Answer
from seedbed.generation.request import Request, TokenLogprob
from seedbed.generation.sampling import Sampling, draw, log_probabilities
from seedbed.models.family import Network
from seedbed.nn.state import DecodeState
from seedbed.text.tokenizer import Tokenizer


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

    A row of several answers reads what they share, the prompt but its last token; then each gets a copy.
    """

    pending: Sequence[int]
    answers: list[Answer]
    capacity: int  # tokens that it may come to have

    @property
    def is_shared(self) -> bool:
        """Several answers come of it."""
        return len(self.answers) > 1


class Engine:
    """Answers requests with one network, many at once.

    At most `max_rows` rows run together, and as few as keep rows x the longest one's tokens within
    `max_state_tokens`; others wait in the order they came. A step reads at most `chunk_tokens` tokens of
    prompts beside one token for each running answer. `eos_ids` end an answer whose settings name none.
    """

    def __init__(
        self,
        module: Network,
        tokenizer: Tokenizer | None = None,
        *,
        eos_ids: Sequence[int] = (),
        max_rows: int = 64,
        max_state_tokens: int = 16_384,
        chunk_tokens: int = 512,
    ) -> None:
        for name, value in (("max_rows", max_rows), ("chunk_tokens", chunk_tokens)):
            if value < 1:
                raise UsageError(f"{name}={value} is not allowed: an engine needs at least 1 to advance")
        self.module, self.tokenizer = module, tokenizer
        self._eos_ids = tuple(eos_ids)
        self._max_rows, self._max_state_tokens, self._chunk_tokens = max_rows, max_state_tokens, chunk_tokens
        self._device = next(module.parameters()).device
        self._queue: deque[Row] = deque()
        self._rows: list[Row] = []
        self._state: DecodeState | None = None
        self._capacity = 0
        self._drawn: Tensor | None = None  # (rows,) what the last step drew, if each row drew and all go on

    @property
    def is_busy(self) -> bool:
        """Some answer is not finished."""
        return bool(self._rows or self._queue)

    def submit(self, request: Request) -> list[Answer]:
        """Take a request in -> its answers, which `step` makes grow; UsageError for one that cannot be."""
        self._check(request)
        prompt, settings = request.prompt_ids, request.settings
        max_positions = self.module.config.max_positions
        max_tokens = settings.max_new_tokens
        if max_positions is not None:  # a full context still says what comes next
            max_tokens = min(max_tokens, max(1, max_positions - len(prompt)))
        seed = secrets.randbits(63) if settings.seed is None else settings.seed
        eos_ids = frozenset(self._eos_ids if settings.eos_ids is None else settings.eos_ids)
        answers = [
            Answer(
                request,
                seed=seed,
                sample=sample,
                max_tokens=max_tokens,
                eos_ids=eos_ids,
                stream=None if self.tokenizer is None else self.tokenizer.stream(),
            )
            for sample in range(settings.num_samples)
        ]
        capacity = len(prompt) + max_tokens - 1  # the last token is not read
        if len(prompt) == 1:
            self._queue.extend(Row(prompt, [answer], capacity) for answer in answers)
        else:
            self._queue.append(Row(prompt if len(answers) == 1 else prompt[:-1], answers, capacity))
        return answers

    @torch.inference_mode()
    def cancel(self, answer: Answer) -> None:
        """End an answer where it is; the others go on."""
        answer.cancel()
        for row in self._queue:
            self._withdraw(row)
        self._queue = deque(row for row in self._queue if row.answers)
        for row in self._rows:
            self._withdraw(row)
        self._drop()

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        """Advance all rows by a token, or by a chunk of their prompts -> the answers that got a token."""
        self._split()
        self._admit()
        if not self._rows:
            return []
        with evaluating(self.module):
            readers, hidden = self._extend()
            if not readers:
                return []
            logits = self.module.output(hidden).float()  # (R, V)
        answers = [row.answers[0] for row in readers]
        tokens, scores = self._draw(logits, answers)
        drawn = tokens.tolist()  # the one wait for the device
        if not all(map(math.isfinite, scores.tolist())):
            raise BundleError(
                "the network's logits are not finite numbers, so no token can be drawn: its weights are "
                "damaged or its training diverged; take an earlier checkpoint"
            )
        logprobs = self._logprobs(logits, tokens, drawn, answers)
        for row, answer, token, logprob in zip(readers, answers, drawn, logprobs, strict=True):
            row.pending = (token,)
            answer.push(token, logprob)
        self._drawn = tokens if len(readers) == len(self._rows) else None
        self._drop()
        return answers

    # ---- what a request must be

    def _check(self, request: Request) -> None:
        prompt, settings, config = request.prompt_ids, request.settings, self.module.config
        if not prompt:
            raise UsageError("the prompt has no token to start from; give at least one")
        wrong = next(
            (i for i in (*prompt, *(settings.eos_ids or ())) if not 0 <= i < config.vocab_size), None
        )
        if wrong is not None:
            raise UsageError(
                f"token id {wrong} is not in the vocabulary: ids go from 0 to {config.vocab_size - 1}"
            )
        if config.max_positions is not None and len(prompt) > config.max_positions:
            raise UsageError(
                f"the prompt has {len(prompt)} tokens, but the context holds {config.max_positions}; "
                "shorten the prompt or take a model with a longer context"
            )
        if settings.stop and self.tokenizer is None:
            raise UsageError(
                f"stop={settings.stop!r} needs text, and this model has no tokenizer; give eos_ids"
            )

    # ---- rows that come and go

    def _room(self, capacity: int) -> int:
        """Rows that may run together when the longest has so many tokens."""
        return max(1, min(self._max_rows, self._max_state_tokens // capacity))

    def _split(self) -> None:
        """Give the answers of each shared row that has read its part a row each, as far as there is room."""
        ready = [row for row in self._rows if row.is_shared and not row.pending]
        if not ready:
            return
        rows, sources = list(self._rows), list(range(len(self._rows)))
        for row in ready:
            room = self._room(self._capacity) - len(rows)
            if room <= 0 and len(ready) == len(self._rows):
                room = 1  # nothing else runs that could make room
            # Copies come last, so that rows keep the order of their places in the state.
            copies, row.answers = row.answers[: max(0, room)], row.answers[max(0, room) :]
            if not row.answers:
                row.answers.append(copies.pop())
            if not row.is_shared:
                row.pending = row.answers[0].request.prompt_ids[-1:]
            for answer in copies:
                rows.append(Row(answer.request.prompt_ids[-1:], [answer], row.capacity))
                sources.append(self._rows.index(row))
        self._select(rows, sources)

    def _admit(self) -> None:
        """Take waiting rows in, in the order they came, as far as there is room for their answers."""
        admitted: list[Row] = []
        load, capacity = sum(len(row.answers) for row in self._rows), self._capacity
        while self._queue:
            row = self._queue[0]
            if load and load + len(row.answers) > self._room(max(capacity, row.capacity)):
                break
            admitted.append(self._queue.popleft())
            load, capacity = load + len(row.answers), max(capacity, row.capacity)
        if not admitted:
            return
        self._reserve(min(load, self._room(capacity)), capacity)
        assert self._state is not None
        self._state.join(self.module.start(len(admitted), 1))
        self._rows += admitted
        self._drawn = None

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

    def _drop(self) -> None:
        """Let the rows of finished answers go."""
        kept = [r for r, row in enumerate(self._rows) if row.answers and not row.answers[0].is_finished]
        if len(kept) == len(self._rows):
            return
        if kept:
            self._select([self._rows[r] for r in kept], kept)
        else:
            self._rows, self._state, self._capacity, self._drawn = [], None, 0, None

    def _select(self, rows: list[Row], sources: Sequence[int]) -> None:
        """Row i becomes `rows[i]`, with the state that row sources[i] has."""
        if len(rows) == len(self._rows) and list(sources) == list(range(len(rows))):
            self._rows = rows
            return
        assert self._state is not None
        self._state.select(sources)
        self._rows, self._drawn = rows, None

    # ---- one pass

    def _extend(self) -> tuple[list[Row], Tensor]:
        """Read the rows' next tokens -> the rows that draw now, and their last hidden states (R, M)."""
        assert self._state is not None
        if self._drawn is not None:
            layout = self._state.layout([1] * len(self._rows))
            return self._rows, self.module.extend(self._state, self._drawn, layout)
        budget, counts, ids = self._chunk_tokens, list[int](), list[int]()
        for row in self._rows:
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
        at = [r for r, row in enumerate(self._rows) if counts[r] and not row.pending and not row.is_shared]
        if at and len(at) < len(ids):
            hidden = hidden[torch.tensor([ends[r] - 1 for r in at], device=self._device)]
        return [self._rows[r] for r in at], hidden

    def _draw(self, logits: Tensor, answers: Sequence[Answer]) -> tuple[Tensor, Tensor]:
        """A token for each answer from logits (R, V) -> (R,), scores (R,); like settings draw together."""
        groups: dict[Sampling, list[int]] = {}
        for i, answer in enumerate(answers):
            groups.setdefault(answer.sampling, []).append(i)
        if len(groups) == 1:
            return draw(logits, answers[0].sampling, keys=[answer.draw_key for answer in answers])
        parts = [
            draw(logits[members], sampling, keys=[answers[i].draw_key for i in members])
            for sampling, members in groups.items()
        ]
        order = torch.tensor(list(chain(*groups.values())), device=logits.device).argsort()
        tokens, scores = (torch.cat(part)[order] for part in zip(*parts, strict=True))
        return tokens, scores

    def _logprobs(
        self, logits: Tensor, tokens: Tensor, drawn: Sequence[int], answers: Sequence[Answer]
    ) -> Sequence[TokenLogprob | None]:
        """What is told about tokens (R,) drawn from logits (R, V), None to answers that did not ask."""
        num_top = max(answer.num_logprobs for answer in answers)
        if not num_top:
            return [None] * len(answers)
        chosen, values, ids = (x.tolist() for x in log_probabilities(logits, tokens, num_top=num_top))
        return [
            TokenLogprob(
                drawn[i], chosen[i], tuple(zip(ids[i], values[i], strict=True))[: answer.num_logprobs]
            )
            if answer.num_logprobs
            else None
            for i, answer in enumerate(answers)
        ]
