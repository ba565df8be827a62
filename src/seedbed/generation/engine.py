"""Requests that are answered together: a set of rows and a `step` that advances them all.

Whatever generates is a client: a batch call submits and steps until all is done, a stream takes text after
each step, a server submits while others run. What an answer is does not depend on its neighbours; a network's
logits do in their last bits, because a product of another size sums in another order, so two tokens that are
equally likely to within rounding are the one case in which company can show.
"""

from __future__ import annotations

import secrets
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
from seedbed.generation.request import Request, TokenLogprob
from seedbed.generation.sampling import Forced, Sampling, check_finite, draw, force, log_probabilities
from seedbed.models.family import Network
from seedbed.nn.layout import Layout
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


class Engine:
    """Answers requests with one network, many at once.

    At most `max_rows` rows run together, and as few as keep rows x the longest one's tokens (its source's
    included) within `max_state_tokens`; others wait in the order they came. A step reads at most
    `chunk_tokens` tokens of prompts and as many of sources (more for a single source) beside one token for
    each running answer. `eos_ids` end an answer whose settings name none; `forced_bos_id` comes first where
    the prompt is a single token, and one of `forced_eos_ids` is the last that max_new_tokens allows, as
    `transformers` has them.
    """

    def __init__(
        self,
        module: Network,
        tokenizer: Tokenizer | None = None,
        *,
        eos_ids: Sequence[int] = (),
        forced_bos_id: int | None = None,
        forced_eos_ids: Sequence[int] = (),
        max_rows: int = 64,
        max_state_tokens: int = 16_384,
        chunk_tokens: int = 512,
    ) -> None:
        for name, value in (("max_rows", max_rows), ("chunk_tokens", chunk_tokens)):
            if value < 1:
                raise UsageError(f"{name}={value} is not allowed: an engine needs at least 1 to advance")
        self.module, self.tokenizer = module, tokenizer
        self._eos_ids = tuple(eos_ids)
        self._forced_bos = () if forced_bos_id is None else (forced_bos_id,)
        self._forced_eos = tuple(forced_eos_ids)
        self._max_rows, self._max_state_tokens, self._chunk_tokens = max_rows, max_state_tokens, chunk_tokens
        self._device = module.device
        self._queue: deque[Row] = deque()
        self._rows: list[Row] = []
        self._state: DecodeState | None = None
        self._capacity = self._longest = 0  # tokens that a row may have; those and its source's
        self._drawn: Tensor | None = None  # (rows,) what the last step drew, if each row drew and all go on

    @property
    def is_busy(self) -> bool:
        """Some answer is not finished."""
        return bool(self._rows or self._queue)

    def submit(self, request: Request) -> list[Answer]:
        """Take a request in -> its answers, which `step` makes grow; UsageError for one that cannot be."""
        request.check(self.module.config, has_tokenizer=self.tokenizer is not None)
        prompt, settings = request.prompt_ids, request.settings
        max_positions = self.module.config.max_positions
        max_tokens = settings.max_new_tokens
        if max_positions is not None:  # a full context still says what comes next
            max_tokens = min(max_tokens, max(1, max_positions - len(prompt)))
        seed = secrets.randbits(63) if settings.seed is None else settings.seed
        eos_ids = frozenset(self._eos_ids if settings.eos_ids is None else settings.eos_ids)
        forced = Forced(self._forced_bos if len(prompt) == 1 else (), self._forced_eos)
        answers = [
            Answer(
                request,
                seed=seed,
                sample=sample,
                max_tokens=max_tokens,
                eos_ids=eos_ids,
                forced=forced,
                stream=None if self.tokenizer is None else self.tokenizer.stream(),
            )
            for sample in range(settings.num_samples)
        ]
        capacity = len(prompt) + max_tokens - 1  # the last token is not read
        if settings.num_beams > 1:
            beams = beam.Beams(
                settings.num_beams,
                length_penalty=settings.length_penalty,
                early_stopping=settings.early_stopping,
                max_tokens=max_tokens,
                eos_ids=eos_ids,
                forced=forced,
            )
            self._queue.append(Row(prompt, answers, capacity, beams))
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
        if any(row.beams is not None for row in readers):
            answers = self._search(readers, logits)
        else:
            answers = self._advance(readers, logits)
        self._drop()
        return answers

    def _advance(self, readers: Sequence[Row], logits: Tensor) -> list[Answer]:
        """Draw each reader's next token from its logits (R, V) -> the answers."""
        answers = [row.answers[0] for row in readers]
        scores = logits
        if self._forced_bos or self._forced_eos:
            scores = force(logits, [answer.forced_ids for answer in answers])
        tokens, scores = self._draw(scores, answers)
        drawn = tokens.tolist()  # the one wait for the device
        check_finite(scores.tolist())
        logprobs = self._logprobs(logits, tokens, drawn, answers)
        for row, answer, token, logprob in zip(readers, answers, drawn, logprobs, strict=True):
            row.pending = (token,)
            answer.push(token, logprob)
        self._drawn = tokens if len(readers) == len(self._rows) else None
        return answers

    def _search(self, readers: Sequence[Row], logits: Tensor) -> list[Answer]:
        """Draw where rows draw, move beams on -> the answers that got tokens, a search's at its end."""
        plain = [i for i, row in enumerate(readers) if row.beams is None]
        answers = self._advance([readers[i] for i in plain], logits[plain]) if plain else []
        members: dict[beam.Beams, list[int]] = {}
        for i, row in enumerate(readers):
            if row.beams is not None:
                members.setdefault(row.beams, []).append(i)
        searches, at = list(members), list(chain(*members.values()))
        forced = [readers[i].beams.forced_ids for i in at]  # type: ignore[union-attr]
        logprobs = force(logits[at].log_softmax(-1), forced).split([len(rows) for rows in members.values()])
        first = {row.beams: r for r, row in reversed(list(enumerate(self._rows)))}
        sources = list(range(len(self._rows)))
        begun = [search.has_begun for search in searches]
        for search, had_begun, running in zip(searches, begun, beam.advance(searches, logprobs), strict=True):
            r = first[search]
            check_finite([c.logprob for c in running] or [search.hypotheses[0].score])
            for place, (_, parent, token) in enumerate(running):
                self._rows[r + place].pending = (token,)
                sources[r + place] = r + parent if had_begun else r
            if search.is_done:
                for answer in self._rows[r].answers:
                    for token in search.hypotheses[answer.sample].token_ids:
                        answer.push(token)
                    answers.append(answer)
        self._select(list(self._rows), sources)
        return answers

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
            room = self._room(self._longest) - len(rows)
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
        if not self._queue:
            return
        admitted: list[Row] = []
        load = sum(len(row.answers) if row.is_shared else 1 for row in self._rows)
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
            self._rows.append(row)
            if row.beams is not None:
                resting = range(1, row.beams.num_beams)
                self._rows += [Row((), row.answers, row.capacity, row.beams) for _ in resting]
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

    def _drop(self) -> None:
        """Let the rows of finished answers go."""
        kept = [r for r, row in enumerate(self._rows) if row.answers and not row.answers[0].is_finished]
        if len(kept) == len(self._rows):
            return
        if kept:
            self._select([self._rows[r] for r in kept], kept)
        else:
            self._rows, self._state, self._drawn = [], None, None
            self._capacity = self._longest = 0

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
