"""Less repetition: a penalty on tokens that the text already has, and a ban on repeated n-grams.

The semantics are those of `transformers`' RepetitionPenaltyLogitsProcessor (Keskar et al. 1909.05858, section
4.1; a negative score is multiplied) and NoRepeatNGramLogitsProcessor. The text is what the decoder has read:
prompt and answer, or an encoder-decoder's start token and answer. Letters: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from seedbed.base.errors import UsageError
from seedbed.generation.settings import GenerationSettings


class History:
    """The text of one answer: its tokens, and those that would complete one of its n-grams.

    Adding a token takes the same time after any text.
    """

    def __init__(
        self, prompt_ids: Sequence[int], *, penalty: float, ngram_size: int, vocab_size: int
    ) -> None:
        self.penalty, self.ngram_size, self._vocab_size = penalty, ngram_size, vocab_size
        self._seen: set[int] = set()
        self._seen_ids = torch.empty(64, dtype=torch.int64)  # the first len(_seen) count
        self._recent: tuple[int, ...] = ()  # up to ngram_size - 1 tokens
        # The first n - 1 tokens of n-grams, and the distinct tokens that follow them.
        self._followers: dict[tuple[int, ...], tuple[int, ...]] = {}
        for token_id in prompt_ids:
            self.push(token_id)
        self._prompt_followers, self._followers = self._followers, {}

    @classmethod
    def of(
        cls, prompt_ids: Sequence[int], settings: GenerationSettings, *, vocab_size: int
    ) -> History | None:
        """The history of an answer after a prompt; None where the settings allow all repetition.

        Errors: UsageError where the prompt leaves no first token.
        """
        penalty, ngram_size = settings.repetition_penalty or 1.0, settings.no_repeat_ngram_size or 0
        if penalty == 1 and not ngram_size:
            return None
        history = cls(prompt_ids, penalty=penalty, ngram_size=ngram_size, vocab_size=vocab_size)
        if history.is_exhausted:
            raise UsageError(
                f"no_repeat_ngram_size={ngram_size} leaves no token that may follow this prompt; give a "
                "larger one, or 0"
            )
        return history

    @property
    def seen_ids(self) -> Tensor:
        """The distinct tokens of the text: (number of them,)."""
        return self._seen_ids[: len(self._seen)]

    @property
    def banned_ids(self) -> Tensor:
        """The distinct tokens that would complete an n-gram of the text: (number of them,)."""
        if self.ngram_size == 1:
            return self.seen_ids
        found = {*self._prompt_followers.get(self._recent, ()), *self._followers.get(self._recent, ())}
        return torch.tensor([*found], dtype=torch.int64)

    @property
    def is_exhausted(self) -> bool:
        """No token may follow: each would repeat an n-gram."""
        return bool(self.ngram_size) and len(self.banned_ids) == self._vocab_size

    def push(self, token_id: int) -> None:
        """Add a token of the answer."""
        if token_id not in self._seen:
            if len(self._seen) == len(self._seen_ids):
                self._seen_ids = torch.cat([self._seen_ids, torch.empty_like(self._seen_ids)])
            self._seen_ids[len(self._seen)] = token_id
            self._seen.add(token_id)
        num_before = self.ngram_size - 1
        if num_before < 1:
            return
        if len(self._recent) == num_before:
            after = self._followers.get(self._recent, ())
            if token_id not in after:
                self._followers[self._recent] = (*after, token_id)
        self._recent = (*self._recent, token_id)[-num_before:]

    def fork(self) -> History:
        """A copy, to be continued separately, that shares the prompt's n-grams."""
        other = copy(self)
        other._seen, other._seen_ids = self._seen.copy(), self._seen_ids.clone()
        other._followers = self._followers.copy()
        return other


def follow(histories: Sequence[History | None], sources: Sequence[int]) -> list[History | None]:
    """The histories sources[i] for each i: the last that selects a history gets it, the others get forks."""
    last = {source: i for i, source in enumerate(sources)}
    found = ((i, source, histories[source]) for i, source in enumerate(sources))
    return [history and (history if last[source] == i else history.fork()) for i, source, history in found]


def discourage(scores: Tensor, histories: Sequence[History | None]) -> Tensor:
    """Scores (R, V) with the penalty on row r's seen tokens and -inf for its banned ones; others as they are.

    Scores are logits where tokens are sampled and log-probabilities in beam search, as in `transformers`.
    """
    rows = [(r * scores.size(-1), history) for r, history in enumerate(histories) if history is not None]
    if not rows:
        return scores
    changed = scores.clone()
    flat = changed.view(-1)
    if penalized := [(start, history) for start, history in rows if history.penalty != 1]:
        at = torch.cat([history.seen_ids + start for start, history in penalized]).to(scores.device)
        penalty = torch.tensor([history.penalty for _, history in penalized], dtype=scores.dtype)
        counts = torch.tensor([len(history.seen_ids) for _, history in penalized])
        penalty = penalty.repeat_interleave(counts).to(scores.device)
        some = flat[at]
        flat[at] = torch.where(some < 0, some * penalty, some / penalty)
    if banned := [history.banned_ids + start for start, history in rows if history.ngram_size]:
        flat[torch.cat(banned).to(scores.device)] = -torch.inf
    return changed
