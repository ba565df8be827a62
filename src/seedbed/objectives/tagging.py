"""Predict the tag of every word of a text: names, parts of speech, chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from seedbed.data.batch import Example
from seedbed.data.objective import SmoothedSettings
from seedbed.data.records import Record
from seedbed.objectives._labelled import Labelled


@dataclass(frozen=True, kw_only=True)
class Settings(SmoothedSettings):
    """The `[objective]` table of this objective."""

    name: Literal["tagging"] = "tagging"  # the objective, also --objective


class Tagging(Labelled):
    """The first token of each word has the word's tag as its target (BERT, 1810.04805, section 5.3).

    The row has the special tokens around a text; all other tokens have no target.
    """

    settings_class = Settings
    shapes = ("encoder", "decoder")
    head_kind = "tagging"
    learns_from = "tags"

    def example(self, record: Record, seed: int) -> Example:
        """Make the row; tags count from 1 in a record (0: no tag), from 0 in the head; `seed` is not used."""
        assert record.answer is not None
        row = np.concatenate([self.begin, record.ids, self.end])
        tagged = np.flatnonzero(record.answer)
        return Example(row, record.answer[tagged] - 1, tagged + len(self.begin))


OBJECTIVE = Tagging
