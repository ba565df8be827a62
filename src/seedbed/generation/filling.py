"""Blanks filled by a model that reads the text before and after them.

A masked model puts one token into each (this file); other models write any number of tokens for each
(gaps.py, whose `filler_of` chooses).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seedbed.base.arguments import brief
from seedbed.base.errors import UsageError
from seedbed.generation.sampling import check_finite
from seedbed.generation.scoring import LOGIT_NUMBERS, flat, passes
from seedbed.models.family import Network
from seedbed.text.blanks import BlankedText, MarkedBlanks


@dataclass(frozen=True)
class Candidate:
    """Tokens for a blank, their text, and their probability under the model."""

    text: str
    token_ids: list[int]
    probability: float


@dataclass(frozen=True)
class Filled:
    """A text with the most likely candidate in each blank, and all candidates of each, most likely first."""

    text: str
    blanks: list[list[Candidate]]


MAX_CANDIDATES = 1000  # some models search with a beam for each


def require_count(name: str, value: int, *, most: int | None = None) -> None:
    """Raise a UsageError where a value is not a whole number from 1 to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= (most or value):
        allowed = "of at least 1" if most is None else f"from 1 to {most:,}"
        raise UsageError(f"{name}={brief(value)} is not allowed: give a whole number {allowed}")


class MaskFiller:
    """A masked model: one token per blank, each predicted with the other blanks masked."""

    def __init__(self, module: Network, encoder: MarkedBlanks) -> None:
        self.encoder, self._module = encoder, module

    @torch.inference_mode()
    def fill(
        self, texts: Sequence[BlankedText], *, num_candidates: int, max_new_tokens: int | None
    ) -> list[Filled]:
        """Fill the blanks of texts; UsageError for any max_new_tokens, which has no effect here.

        A candidate's probability is the model's over its whole vocabulary; special tokens are no candidates.
        """
        if max_new_tokens is not None:
            raise UsageError(
                f"max_new_tokens={max_new_tokens!r} has no effect on a masked model, which puts one token "
                "into each blank; leave it out"
            )
        module, encoder = self._module, self.encoder
        fillers = torch.tensor(encoder.fillers, device=module.device)
        lengths = [len(text.ids) for text in texts]
        found: dict[int, Filled] = {}
        for members in passes(sorted(range(len(texts)), key=lengths.__getitem__, reverse=True), lengths):
            ids, layout = flat([texts[m].ids for m in members], module.device)
            starts = (end - n + 1 for end, n in zip(layout.last_tokens(), layout.lengths, strict=True))
            rows = zip(starts, members, strict=True)
            at = ids.new_tensor([start + place for start, m in rows for place in texts[m].places])
            best = iter(_candidates(module, module(ids, layout)[at], fillers, num_candidates))
            for m in members:
                blanks = [
                    [Candidate(encoder.text(i), [i], p) for i, p in next(best)] for _ in texts[m].places
                ]
                text = encoder.fill(texts[m], [blank[0].token_ids for blank in blanks])
                found[m] = Filled(text, blanks)
        return [found[m] for m in range(len(texts))]


def _candidates(
    module: Network, hidden: Tensor, fillers: Tensor, num_candidates: int
) -> list[list[tuple[int, float]]]:
    """Return the most likely of `fillers` (F,) at hidden states (N, M), with their probabilities."""
    num = min(num_candidates, len(fillers))
    found: list[list[tuple[int, float]]] = []
    for some in hidden.split(max(1, LOGIT_NUMBERS // module.config.vocab_size)):
        probabilities = module.output(some).float().softmax(-1)  # (N, V)
        values, best = probabilities[:, fillers].topk(num)
        for row, ids in zip(values.tolist(), fillers[best].tolist(), strict=True):
            check_finite(row)
            found.append(list(zip(ids, row, strict=True)))
    return found
