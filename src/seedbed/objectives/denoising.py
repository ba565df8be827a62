"""Write a corrupted text again: the objective of BART."""

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
from seedbed.objectives._sampling import count, record_rng


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[objective]` table of this objective."""

    name: Literal["denoising"] = "denoising"  # the objective, also --objective
    rate: float = 0.3  # share of the tokens in spans that become one mask each [0 or more and below 1]
    mean_span_tokens: float = 3.0  # mean of the Poisson distribution of lengths, 0 included [above 0]
    permute_sentences: bool = True  # shuffle the sentences of a text
    delete_rate: float = 0.0  # share of the remaining tokens that are deleted [0 or more and below 1]

    def __post_init__(self) -> None:
        require_share("rate", self.rate, zero=True)
        require_share("delete_rate", self.delete_rate, zero=True)
        if not 0 < self.mean_span_tokens < math.inf:
            raise ConfigError(
                f"objective.mean_span_tokens={self.mean_span_tokens} is not allowed: give a number above 0"
            )


class Denoising(Objective):
    """BART's objective (Lewis et al. 1910.13461, section 2.2): the decoder writes the whole text again.

    Sentences are permuted, then spans of Poisson lengths become one mask each (30% of the tokens), then
    tokens are deleted; BART itself used the first two. All of the text is a target, with the special tokens
    around it.
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
        """The context without the special tokens around a text."""
        return max_text_tokens(context_tokens, len(self._begin) + len(self._end))

    def example(self, record: Record, seed: int) -> Example:
        """Make a row with the corrupted text as the source and the text as the targets."""
        rng = record_rng(seed, record)
        ids = self.vocabulary.text(record.ids)
        source = self._permuted(rng, ids) if self.settings.permute_sentences else ids
        if self.settings.rate and len(source):
            source = self._infilled(rng, source)
        if self.settings.delete_rate and len(source):
            source = self._thinned(rng, source)
        targets = np.concatenate([self._begin, ids, self._end])
        inputs = np.concatenate([[self._start_id], targets[:-1]])
        return Example(inputs, targets, source_ids=np.concatenate([self._begin, source, self._end]))

    def _permuted(self, rng: np.random.Generator, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Permute the sentences; a sentence ends after its last mark."""
        ends = self.vocabulary.ends_sentence[ids]
        cuts = np.flatnonzero(ends[:-1] & ~ends[1:]) + 1
        if not len(cuts):
            return ids
        sentences = np.split(ids, cuts)
        return np.concatenate([sentences[i] for i in rng.permutation(len(sentences))])

    def _infilled(self, rng: np.random.Generator, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Replace each span by a mask; spans do not touch where enough tokens are kept between them."""
        num_masked = count(rng, self.settings.rate * len(ids))
        if not num_masked:
            return ids
        lengths = self.span_lengths(rng, num_masked)
        num_kept = len(ids) - num_masked
        apart = len(lengths) <= num_kept + 1
        places = rng.permutation(num_kept + 1) if apart else rng.integers(0, num_kept + 1, len(lengths))
        at = np.sort(places[: len(lengths)])  # a span is before the kept token of this number
        first = at + np.cumsum(lengths) - lengths
        stays = np.ones(len(ids), dtype=np.bool_)
        stays[np.repeat(first - np.cumsum(lengths) + lengths, lengths) + np.arange(num_masked)] = False
        assert self._mask_id is not None
        return np.insert(ids[stays], at, self._mask_id)

    def span_lengths(self, rng: np.random.Generator, num_masked: int) -> NDArray[np.int64]:
        """Sample Poisson lengths of spans whose sum is `num_masked`; the last one is cut.

        There are at most as many spans as masked tokens, so that a source is never longer than its text:
        surplus empty spans are dropped.
        """
        lengths = np.zeros(0, dtype=np.int64)
        while (total := int(lengths.sum())) < num_masked:
            expected = (num_masked - total) / self.settings.mean_span_tokens
            more = rng.poisson(self.settings.mean_span_tokens, 2 + int(1.2 * expected))
            lengths = np.concatenate([lengths, more])
        last = int(np.searchsorted(np.cumsum(lengths), num_masked))
        lengths = lengths[: last + 1]
        lengths[last] -= int(lengths.sum()) - num_masked
        if (surplus := len(lengths) - num_masked) > 0:
            lengths = np.delete(lengths, np.flatnonzero(lengths == 0)[:surplus])
        return lengths

    def _thinned(self, rng: np.random.Generator, source: NDArray[np.int64]) -> NDArray[np.int64]:
        """Delete tokens of the source; masks stay."""
        free = np.flatnonzero(source != (-1 if self._mask_id is None else self._mask_id))
        deleted = rng.permutation(free)[: count(rng, self.settings.delete_rate * len(free))]
        return np.delete(source, deleted)


OBJECTIVE = Denoising
