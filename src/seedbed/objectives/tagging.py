"""Give each word of a text its tag: what names, parts of speech or chunks are learnt by."""

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

    name: Literal["tagging"] = "tagging"


class Tagging(Labelled):
    """A text in the tokens that stand around one; each word's first token has the word's tag as its target.

    The other tokens have none (BERT, 1810.04805, section 5.3).
    """

    settings_class = Settings
    shapes = ("encoder", "decoder")
    head_kind = "tagging"
    learns_from = "tags"

    def example(self, record: Record, seed: int) -> Example:
        """Nothing is drawn; tags are counted from 1 in a record, where 0 is none, and from 0 in the head."""
        assert record.answer is not None
        row = np.concatenate([self.begin, record.ids, self.end])
        tagged = np.flatnonzero(record.answer)
        return Example(row, record.answer[tagged] - 1, tagged + len(self.begin))


OBJECTIVE = Tagging
