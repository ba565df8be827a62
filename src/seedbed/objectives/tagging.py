"""Give each word of a text its tag: what names, parts of speech or chunks are learnt by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seedbed.data.batch import Batch, Example
from seedbed.data.objective import Objective, require_share, room_for_text
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.models.family import Network
from seedbed.objectives._loss import targets_loss


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[objective]` table of this objective."""

    name: Literal["tagging"] = "tagging"
    label_smoothing: float = 0.0  # in training; held-out losses are plain

    def __post_init__(self) -> None:
        require_share("label_smoothing", self.label_smoothing, zero=True)


class Tagging(Objective):
    """A text in the tokens that stand around one; each word's first token has the word's tag as its target.

    The other tokens have none (BERT, 1810.04805, section 5.3).
    """

    settings_class = Settings
    shapes = ("encoder", "decoder")
    head_kind = "tagging"
    learns_from = "tags"

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        self.settings = settings
        self._begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self._end = np.array(vocabulary.end_ids, dtype=np.int64)

    def input_room(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """All of the context but the tokens around a text."""
        room = room_for_text(context_tokens, len(self._begin) + len(self._end))
        return np.full(len(answer_tokens), room)

    def example(self, record: Record, seed: int) -> Example:
        """Nothing is drawn; tags are counted from 1 in a record, where 0 is none, and from 0 in the head."""
        assert record.answer is not None
        row = np.concatenate([self._begin, record.ids, self._end])
        tagged = np.flatnonzero(record.answer)
        return Example(row, record.answer[tagged] - 1, tagged + len(self._begin))

    def loss_sum(self, module: Network, batch: Batch) -> Tensor:
        """Summed nats of the tags, smoothed while the module trains."""
        smoothing = self.settings.label_smoothing if module.training else 0.0
        return targets_loss(module, batch, label_smoothing=smoothing)


OBJECTIVE = Tagging
