"""Blanks filled by a model that reads what stands before and after them.

Which way a network fills them is known by its head, its shape, its tokenizer and its generation settings:
a masked model puts one token into each (this file); an encoder-decoder writes what stands in them, either
behind sentinels or within the whole text (gaps.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from seedbed.base.errors import UsageError
from seedbed.generation.sampling import check_finite
from seedbed.generation.scoring import LOGIT_NUMBERS, passes
from seedbed.models.family import Network
from seedbed.nn.layout import Layout
from seedbed.text.blanks import BlankedText, BlankEncoder


@dataclass(frozen=True)
class Candidate:
    """What may stand in a blank: its tokens, their text alone, and how probable the model finds them."""

    text: str
    token_ids: list[int]
    probability: float


@dataclass(frozen=True)
class Filled:
    """A text with the likeliest candidate in each blank, and the candidates for each, likeliest first."""

    text: str
    blanks: list[list[Candidate]]


class Filler(ABC):
    """One way to fill blanks: `encoder` makes tokens of a text with blanks, `fill` puts candidates there."""

    encoder: BlankEncoder

    @abstractmethod
    def fill(
        self, texts: Sequence[BlankedText], *, num_candidates: int, max_new_tokens: int | None
    ) -> list[Filled]:
        """Fill the blanks of texts; `max_new_tokens` of a blank, None for what is usual."""


def require_count(name: str, value: int) -> None:
    """Refuse with a UsageError what is no whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name}={value!r} is not allowed: give a whole number of at least 1")


class MaskFiller(Filler):
    """A masked model: one token a blank, each as if the others stayed blank; texts are read together."""

    def __init__(self, module: Network, encoder: BlankEncoder) -> None:
        self.encoder, self._module = encoder, module

    @torch.inference_mode()
    def fill(
        self, texts: Sequence[BlankedText], *, num_candidates: int, max_new_tokens: int | None
    ) -> list[Filled]:
        """Fill the blanks of texts; UsageError for any max_new_tokens, which cannot have an effect.

        A candidate's probability is the model's, over its whole vocabulary; control tokens are left out of
        the candidates, not of the probabilities.
        """
        if max_new_tokens is not None:
            raise UsageError(
                f"max_new_tokens={max_new_tokens!r} has no effect on a masked model, which puts one token "
                "into each blank; leave it out"
            )
        module, encoder = self._module, self.encoder
        device = module.device
        fillers = torch.tensor(encoder.fillers, device=device)
        lengths = [len(text.ids) for text in texts]
        found: dict[int, Filled] = {}
        for members in passes(sorted(range(len(texts)), key=lengths.__getitem__, reverse=True), lengths):
            layout = Layout.of([lengths[m] for m in members], device=device)
            ids = torch.tensor([*chain(*(texts[m].ids for m in members))], device=device)
            starts = (end - n + 1 for end, n in zip(layout.last_tokens(), layout.lengths, strict=True))
            at = [
                start + place for start, m in zip(starts, members, strict=True) for place in texts[m].places
            ]
            hidden = module(ids, layout)[torch.tensor(at, device=device)]
            best = iter(_candidates(module, hidden, fillers, num_candidates))
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
    """The likeliest of the tokens `fillers` (F,) at hidden states (N, M), with their probabilities."""
    num = min(num_candidates, len(fillers))
    found: list[list[tuple[int, float]]] = []
    for some in hidden.split(max(1, LOGIT_NUMBERS // module.config.vocab_size)):
        probabilities = module.output(some).float().softmax(-1)  # (N, V)
        values, best = probabilities[:, fillers].topk(num)
        for row, ids in zip(values.tolist(), fillers[best].tolist(), strict=True):
            check_finite(row)
            found.append(list(zip(ids, row, strict=True)))
    return found
