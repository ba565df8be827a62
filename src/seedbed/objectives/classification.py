"""Give a text its label: what a sentiment, a topic or the language of a text is learnt by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seedbed.data.batch import Batch, Example
from seedbed.data.objective import Objective, require_share, room_for_text
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.nn.loss import cross_entropy_sum
from seedbed.objectives._loss import hidden_states


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[objective]` table of this objective."""

    name: Literal["classification"] = "classification"
    label_smoothing: float = 0.0  # in training; held-out losses are plain

    def __post_init__(self) -> None:
        require_share("label_smoothing", self.label_smoothing, zero=True)


class Classification(Objective):
    """A text in the tokens that stand around one is one row with one target, the number of its label.

    An encoder's first token or a decoder's last one tells it (BERT, 1810.04805, section 4.1; Radford et al.
    2018, section 3.2); an encoder-decoder's decoder reads the row again (BART, 1910.13461, section 3.2).
    """

    settings_class = Settings
    shapes = ("encoder", "decoder", "encoder-decoder")
    head_kind = "classification"
    learns_from = "labels"

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        self.vocabulary, self.settings = vocabulary, settings
        self._begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self._end = np.array(vocabulary.end_ids, dtype=np.int64)

    def input_room(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """All of the context but the tokens around a text."""
        room = room_for_text(context_tokens, len(self._begin) + len(self._end))
        return np.full(len(answer_tokens), room)

    def example(self, record: Record, seed: int) -> Example:
        """Nothing is drawn; labels are counted from 1 in a record, from 0 in the head."""
        assert record.answer is not None
        row, targets = np.concatenate([self._begin, record.ids, self._end]), record.answer - 1
        start_id = self.vocabulary.decoder_start_id
        if start_id is None:
            return Example(row, targets)
        return Example(np.concatenate([[start_id], row[:-1]]), targets, source_ids=row)

    def loss_sum(self, module: Any, batch: Batch) -> Tensor:
        """Summed nats of the labels, smoothed while the module trains."""
        logits = module.classify(hidden_states(module, batch), batch.layout)  # (rows, labels)
        smoothing = self.settings.label_smoothing if module.training else 0.0
        return cross_entropy_sum(logits, batch.targets, label_smoothing=smoothing)


OBJECTIVE = Classification
