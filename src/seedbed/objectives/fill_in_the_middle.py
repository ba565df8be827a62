"""Write the middle of a text after its prefix and suffix: fill in the middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from seedbed.base.errors import ConfigError
from seedbed.data.batch import Example
from seedbed.data.objective import Objective, max_text_tokens
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.objectives._sampling import record_rng

PREFIX, SUFFIX, MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[objective]` table of this objective."""

    name: Literal["fill_in_the_middle"] = "fill_in_the_middle"  # the objective, also --objective
    rate: float = 0.5  # share of the records that are cut; the others are plain text [above 0, at most 1]
    spm_rate: float = 0.5  # share of these in which the suffix is before the prefix [0 to 1]

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ConfigError(f"objective.rate={self.rate} is not allowed: give a share above 0, at most 1")
        if not 0 <= self.spm_rate <= 1:
            raise ConfigError(f"objective.spm_rate={self.spm_rate} is not allowed: give a share from 0 to 1")


class FillInTheMiddle(Objective):
    """A decoder reads a text with its middle at the end, in the orders PSM and SPM (2207.14255, section 3).

    Texts are cut between tokens. A middle ends with the end token, a plain text where its document ends.
    """

    settings_class = Settings
    shapes = ("decoder",)
    needs = ("eos", PREFIX, SUFFIX, MIDDLE)
    infill = f"{PREFIX}{{before}}{SUFFIX}{{after}}{MIDDLE}"

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        vocabulary.require(self.needs, settings.name)
        self.vocabulary, self.settings = vocabulary, settings
        self._prefix, self._suffix, self._middle = (
            np.array([vocabulary.special_tokens[token]], dtype=np.int64) for token in (PREFIX, SUFFIX, MIDDLE)
        )
        self._begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self._end = np.array(vocabulary.closing_ids, dtype=np.int64)

    def record_tokens(self, context_tokens: int) -> int:
        """The context without the special tokens of a cut text, the last of which is only a target."""
        return max_text_tokens(context_tokens, len(self._begin) + 3 + len(self._end) - 1)

    def example(self, record: Record, seed: int) -> Example:
        """Make a row of the plain text, or of its prefix, suffix and middle in one of the two orders."""
        ids, rng = self.vocabulary.text(record.ids), record_rng(seed, record)
        parts, end = [ids], self._end if len(record.ids) > len(ids) else self._end[:0]
        if rng.random() < self.settings.rate:
            end = self._end
            first, second = np.sort(rng.integers(0, len(ids) + 1, 2))
            prefix, middle, suffix = ids[:first], ids[first:second], ids[second:]
            if rng.random() < self.settings.spm_rate:
                # The variant of SPM with the tokens in the places of PSM, so that one order helps the other.
                parts = [self._prefix, self._suffix, suffix, self._middle, prefix, middle]
            else:
                parts = [self._prefix, prefix, self._suffix, suffix, self._middle, middle]
        row = np.concatenate([self._begin, *parts, end])
        return Example(row[:-1], row[1:])


OBJECTIVE = FillInTheMiddle
