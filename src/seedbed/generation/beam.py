"""Beam search: a few beams continue with their most likely tokens, and the best that ended is the answer.

The semantics are those of `transformers` (`generate` with num_beams > 1 and do_sample off, 5.x): a step
takes the (1 + end tokens) x num_beams most likely continuations, at least two per beam; the first num_beams
of these that do not end continue, and those that end are kept if they are among the first num_beams.
Letters: G searches that advance together, B beams of each that were read (one before the first token), K
num_beams, C continuations, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.generation.repetition import History, follow
from seedbed.generation.sampling import Limits
from seedbed.generation.settings import GenerationSettings

# The score of a beam that still equals the first one: all continuations come from that.
UNBORN = -1e9


class Hypothesis(NamedTuple):
    """An answer that ended: its tokens, and their summed log-probability / their number ** length_penalty."""

    token_ids: tuple[int, ...]
    score: float


class Continuation(NamedTuple):
    """One more token after a beam, and the summed log-probability of all tokens with it."""

    logprob: float
    beam: int
    token_id: int


def continuations(logprobs: Tensor, scores: Tensor, num_continuations: int) -> list[list[Continuation]]:
    """The most likely continuations of each search, best first.

    logprobs (G, B, V) of the next token; scores (G, K), the summed log-probability of each beam so far.
    """
    total = logprobs + scores[:, :, None]  # (G, K, V)
    vocab_size = total.size(-1)
    values, at = total.flatten(1).topk(min(num_continuations, total[0].numel()))  # (G, C)
    return [
        [Continuation(value, *divmod(index, vocab_size)) for value, index in zip(*pair, strict=True)]
        for pair in zip(values.tolist(), at.tolist(), strict=True)
    ]


def split(
    found: Sequence[Continuation], num_beams: int, *, eos_ids: frozenset[int], is_last: bool
) -> tuple[list[Continuation], list[Continuation]]:
    """Of continuations, best first: those that continue, and those that ended and are kept."""
    ends = [is_last or c.token_id in eos_ids for c in found]
    running = [c for c, end in zip(found, ends, strict=True) if not end][:num_beams]
    ended = [c for c, end in zip(found[:num_beams], ends, strict=False) if end]
    return running, ended


def in_place(running: Sequence[Continuation]) -> list[Continuation]:
    """The same in another order: each beam's first continuation in its place, so that fewest rows move."""
    placed = {c.beam: c for c in reversed(running)}
    moved = [c for c in running if placed[c.beam] is not c]
    free = [place for place in range(len(running)) if place not in placed]
    placed |= dict(zip(free, moved, strict=True))
    return [placed[place] for place in range(len(running))]


class Beams:
    """The search for one answer: `num_beams` beams, equal at first, and the hypotheses that ended."""

    def __init__(self, settings: GenerationSettings, limits: Limits, history: History | None = None) -> None:
        num_beams = settings.num_beams or 1
        self.num_beams, self.num_continuations = num_beams, max(2, 1 + len(limits.eos_ids)) * num_beams
        self.scores = [0.0] + [UNBORN] * (num_beams - 1)
        self.hypotheses: list[Hypothesis] = []  # best first, at most num_beams
        self.is_done = False
        self._token_ids: list[tuple[int, ...]] = [()] * num_beams
        self._length_penalty = 1.0 if settings.length_penalty is None else settings.length_penalty
        self._early_stopping = settings.early_stopping or False
        self._limits = limits
        self.histories = [None if history is None else history.fork() for _ in range(num_beams)]

    @property
    def num_tokens(self) -> int:
        """Tokens of each beam; the beams differ once there are any."""
        return len(self._token_ids[0])

    @property
    def forced_ids(self) -> tuple[int, ...]:
        """The only tokens that may come next; () for any."""
        return self._limits.forced_at(self.num_tokens)

    def advance(self, found: Sequence[Continuation]) -> list[Continuation]:
        """Take a step's continuations, best first -> the new beams, none once the search is done.

        Where banned n-grams leave fewer continuations than beams, the beams end as they are.
        """
        num_tokens = self.num_tokens + 1
        is_last = num_tokens >= self._limits.max_tokens
        possible = [c for c in found if c.logprob != -math.inf]
        running, ended = split(possible, self.num_beams, eos_ids=self._limits.eos_ids, is_last=is_last)
        ends = [((*self._token_ids[c.beam], c.token_id), c.logprob) for c in ended]
        if len(ended if is_last else running) < self.num_beams:
            running = []
            ends += zip(self._token_ids, self.scores, strict=True) if self.num_tokens else ()
        added = [Hypothesis(ids, logprob / len(ids) ** self._length_penalty) for ids, logprob in ends]
        self.hypotheses = sorted(self.hypotheses + added, key=lambda h: -h.score)[: self.num_beams]
        self.is_done = not running or (
            len(self.hypotheses) == self.num_beams and not self._can_improve(running[0].logprob, num_tokens)
        )
        if self.is_done:
            return []
        running = in_place(running)
        self._token_ids = [(*self._token_ids[c.beam], c.token_id) for c in running]
        self.scores = [c.logprob for c in running]
        self.histories = follow(self.histories, [c.beam for c in running])
        for history, c in zip(self.histories, running, strict=True):
            if history is not None:
                history.push(c.token_id)
        return running

    def _can_improve(self, best: float, num_tokens: int) -> bool:
        """Whether a beam of `num_tokens` tokens and log-probability `best` may beat the worst hypothesis."""
        if self._early_stopping is True:
            return False
        # As if it ended here; "never": the best that it can reach where a penalty favours long answers.
        is_longest = self._early_stopping == "never" and self._length_penalty > 0
        length = self._limits.max_tokens if is_longest else num_tokens
        return bool(best / length**self._length_penalty > self.hypotheses[-1].score)


def advance(searches: Sequence[Beams], logprobs: Sequence[Tensor]) -> list[list[Continuation]]:
    """Advance searches, those of one size together, by the log-probabilities (B, V) of their beams.

    Returns the new beams of each.
    """
    groups: dict[tuple[int, int, int], list[int]] = {}
    for i, (beams, rows) in enumerate(zip(searches, logprobs, strict=True)):
        groups.setdefault((len(rows), beams.num_beams, beams.num_continuations), []).append(i)
    running: dict[int, list[Continuation]] = {}
    for (_, _, num_continuations), members in groups.items():
        together = torch.stack([logprobs[i] for i in members])
        scores = together.new_tensor([searches[i].scores for i in members])
        for i, found in zip(members, continuations(together, scores, num_continuations), strict=True):
            running[i] = searches[i].advance(found)
    return [running[i] for i in range(len(searches))]
