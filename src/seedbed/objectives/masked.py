"""Predict masked tokens from the tokens around them: the objective of BERT and RoBERTa."""

from __future__ import annotations

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

MASKED, RANDOM = 0.8, 0.1  # of the selected tokens; the rest is unchanged (BERT, section 3.1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[objective]` table of this objective."""

    name: Literal["masked"] = "masked"  # the objective, also --objective
    rate: float = 0.15  # share of the tokens that are predicted [above 0 and below 1]
    whole_words: bool = False  # select all tokens of a word together
    dynamic: bool = True  # select other tokens in each pass (RoBERTa); false: the same (BERT)

    def __post_init__(self) -> None:
        require_share("rate", self.rate)


class Masked(Objective):
    """BERT's masked language model (Devlin et al. 1810.04805, section 3.1); dynamic as RoBERTa (1907.11692).

    Of the selected tokens 80% become the mask, 10% any other token, and 10% stay; special tokens are never
    selected or sampled.
    """

    settings_class = Settings
    shapes = ("encoder",)
    heads = ("mlm",)
    needs = ("mask",)

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        self.vocabulary, self.settings = vocabulary, settings
        self.cut_anew = settings.dynamic
        vocabulary.require(self.needs, settings.name)
        assert vocabulary.mask_id is not None
        self._mask_id = vocabulary.mask_id
        self._ordinary = vocabulary.ordinary_ids
        self._is_ordinary = np.zeros(vocabulary.size, dtype=np.bool_)
        self._is_ordinary[self._ordinary] = True
        self._begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self._end = np.array(vocabulary.end_ids, dtype=np.int64)
        if not len(self._ordinary):
            raise ConfigError("this tokenizer has only special tokens; masked training needs others to mask")

    def record_tokens(self, context_tokens: int) -> int:
        """The context without the special tokens around a text."""
        return max_text_tokens(context_tokens, len(self._begin) + len(self._end))

    def example(self, record: Record, seed: int) -> Example:
        """Make a row with masks; the targets are the tokens at the selected places."""
        rng = record_rng(seed, record, anew=self.settings.dynamic)
        ids = self.vocabulary.text(record.ids)
        at = self._choose(rng, ids)
        corrupted = ids.copy()
        fate = rng.random(len(at))
        corrupted[at[fate < MASKED]] = self._mask_id
        others = at[(fate >= MASKED) & (fate < MASKED + RANDOM)]
        corrupted[others] = self._ordinary[rng.integers(0, len(self._ordinary), len(others))]
        inputs = np.concatenate([self._begin, corrupted, self._end])
        return Example(inputs, ids[at], at + len(self._begin))

    def _choose(self, rng: np.random.Generator, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Select the places to predict, in order: `rate` of the tokens on average, in whole words if set."""
        free = np.flatnonzero(self._is_ordinary[ids])
        if not len(free):
            return free
        num_selected = max(1, count(rng, self.settings.rate * len(free)))
        if not self.settings.whole_words:
            return np.sort(rng.permutation(free)[:num_selected])
        begins = self.vocabulary.begins_word[ids[free]]
        begins[0] = True
        begins[1:] |= np.diff(free) > 1  # after a special token
        word = np.cumsum(begins) - 1
        sizes = np.bincount(word)
        order = rng.permutation(len(sizes))
        after = np.cumsum(sizes[order])
        whole = int(np.searchsorted(after, num_selected, side="right"))
        if whole < len(order):  # the word at the limit is selected as often as keeps the rate
            left = num_selected - (int(after[whole - 1]) if whole else 0)
            whole += int(rng.random() * sizes[order[whole]] < left)
        chosen = np.zeros(len(sizes), dtype=np.bool_)
        chosen[order[:whole]] = True
        taken: NDArray[np.int64] = free[chosen[word]]
        return taken


OBJECTIVE = Masked
