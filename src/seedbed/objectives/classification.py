"""Predict the label of a text: sentiment, topic, language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from seedbed.data.batch import Batch, Example
from seedbed.data.objective import SmoothedSettings
from seedbed.data.records import Record
from seedbed.objectives._labelled import Labelled


@dataclass(frozen=True, kw_only=True)
class Settings(SmoothedSettings):
    """The `[objective]` table of this objective."""

    name: Literal["classification"] = "classification"  # the objective, also --objective


class Classification(Labelled):
    """A row is a text with the special tokens around it; its one target is the number of its label.

    It is predicted from an encoder's first token or a decoder's last one (BERT, 1810.04805, section 4.1;
    Radford et al. 2018, section 3.2); an encoder-decoder's decoder reads the row again (BART, 1910.13461,
    section 3.2).
    """

    settings_class = Settings
    shapes = ("encoder", "decoder", "encoder-decoder")
    head_kind = "classification"
    learns_from = "labels"

    def example(self, record: Record, seed: int) -> Example:
        """Make the row; labels count from 1 in a record, from 0 in the head; `seed` is not used."""
        assert record.answer is not None
        row, targets = np.concatenate([self.begin, record.ids, self.end]), record.answer - 1
        start_id = self.vocabulary.decoder_start_id
        if start_id is None:
            return Example(row, targets)
        return Example(np.concatenate([[start_id], row[:-1]]), targets, source_ids=row)

    def logits(self, module: Any, batch: Batch) -> Tensor:
        """Return logits (rows, labels), one row of them per text."""
        hidden = module(batch.input_ids, batch.layout, **batch.source)
        found: Tensor = module.classify(hidden, batch.layout)
        return found


OBJECTIVE = Classification
