"""Write a text again that was corrupted: what BART was pre-trained with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError
from seedbed.data.batch import Example
from seedbed.data.objective import Objective, max_text_tokens, require_share
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.objectives._drawing import count, generator


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[objective]` table of this objective."""

    name: Literal["denoising"] = "denoising"
    rate: float = 0.3  # of the tokens lie in spans that become one mask each; 0: none
    mean_span_tokens: float = 3.0  # of the spans, Poisson: some are empty, and a mask stands for nothing
    permute_sentences: bool = True
    delete_rate: float = 0.0  # of the tokens that are left are taken out without a trace

    def __post_init__(self) -> None:
        require_share("rate", self.rate, zero=True)
        require_share("delete_rate", self.delete_rate, zero=True)
        if not 0 < self.mean_span_tokens < math.inf:
            raise ConfigError(
                f"objective.mean_span_tokens={self.mean_span_tokens} is not allowed: give a number above 0"
            )


class Denoising(Objective):
    """BART's objective (Lewis et al. 1910.13461, section 2.2): the decoder writes the whole text again.

    Sentences change places, then spans of Poisson lengths become one mask each (30% of the tokens), then
    tokens are deleted: of these BART itself used the first two. All of the text is a target, its control
    tokens too.
    """

    settings_class = Settings
    shapes = ("encoder-decoder",)
    needs = ("eos", "mask")

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        self.vocabulary, self.settings = vocabulary, settings
        vocabulary.require([role for role in self.needs if settings.rate or role != "mask"], settings.name)
        self._start_id = vocabulary.decoder_start(settings.name)
        self._mask_id = vocabulary.mask_id if settings.rate else None
        self._begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self._end = np.array(vocabulary.closing_ids, dtype=np.int64)

    def record_tokens(self, context_tokens: int) -> int:
        """What the context has room for beside the control tokens around a text."""
        return max_text_tokens(context_tokens, len(self._begin) + len(self._end))

    def example(self, record: Record, seed: int) -> Example:
        """The corrupted text as the source, the text itself as what the decoder writes."""
        draw = generator(seed, record)
        ids = self.vocabulary.text(record.ids)
        source = self._permuted(draw, ids) if self.settings.permute_sentences else ids
        if self.settings.rate and len(source):
            source = self._infilled(draw, source)
        if self.settings.delete_rate and len(source):
            source = self._thinned(draw, source)
        targets = np.concatenate([self._begin, ids, self._end])
        inputs = np.concatenate([[self._start_id], targets[:-1]])
        return Example(inputs, targets, source_ids=np.concatenate([self._begin, source, self._end]))

    def _permuted(self, draw: np.random.Generator, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sentences in any order; a sentence ends behind its last mark."""
        ends = self.vocabulary.ends_sentence[ids]
        cuts = np.flatnonzero(ends[:-1] & ~ends[1:]) + 1
        if not len(cuts):
            return ids
        sentences = np.split(ids, cuts)
        return np.concatenate([sentences[i] for i in draw.permutation(len(sentences))])

    def _infilled(self, draw: np.random.Generator, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The text with a mask for each span; no two spans touch where there is room between them."""
        num_masked = count(draw, self.settings.rate * len(ids))
        if not num_masked:
            return ids
        lengths = self.span_lengths(draw, num_masked)
        num_kept = len(ids) - num_masked
        apart = len(lengths) <= num_kept + 1
        places = draw.permutation(num_kept + 1) if apart else draw.integers(0, num_kept + 1, len(lengths))
        at = np.sort(places[: len(lengths)])  # a span stands before the kept token of this number
        first = at + np.cumsum(lengths) - lengths
        stays = np.ones(len(ids), dtype=np.bool_)
        stays[np.repeat(first - np.cumsum(lengths) + lengths, lengths) + np.arange(num_masked)] = False
        assert self._mask_id is not None
        return np.insert(ids[stays], at, self._mask_id)

    def span_lengths(self, draw: np.random.Generator, num_masked: int) -> NDArray[np.int64]:
        """Lengths of spans that mask so many tokens in all: Poisson, but the last is cut to fit.

        Empty spans beyond as many spans as tokens are dropped: a source is never longer than its text.
        """
        lengths = np.zeros(0, dtype=np.int64)
        while (total := int(lengths.sum())) < num_masked:
            expected = (num_masked - total) / self.settings.mean_span_tokens
            more = draw.poisson(self.settings.mean_span_tokens, 2 + int(1.2 * expected))
            lengths = np.concatenate([lengths, more])
        last = int(np.searchsorted(np.cumsum(lengths), num_masked))
        lengths = lengths[: last + 1]
        lengths[last] -= int(lengths.sum()) - num_masked
        if (surplus := len(lengths) - num_masked) > 0:
            lengths = np.delete(lengths, np.flatnonzero(lengths == 0)[:surplus])
        return lengths

    def _thinned(self, draw: np.random.Generator, source: NDArray[np.int64]) -> NDArray[np.int64]:
        """The source without some of its tokens; masks stay."""
        free = np.flatnonzero(source != (-1 if self._mask_id is None else self._mask_id))
        deleted = draw.permutation(free)[: count(draw, self.settings.delete_rate * len(free))]
        return np.delete(source, deleted)


OBJECTIVE = Denoising
