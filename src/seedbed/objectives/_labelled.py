"""What the objectives that give labels share: a text in the tokens around it, and a head with labels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seedbed.data.batch import Batch
from seedbed.data.objective import Objective, require_share, room_for_text
from seedbed.data.vocabulary import Vocabulary
from seedbed.nn.loss import cross_entropy_sum


@dataclass(frozen=True, kw_only=True)
class LabelledSettings:
    """The keys of `[objective]` that all of them have."""

    label_smoothing: float = 0.0  # in training; held-out losses are plain

    def __post_init__(self) -> None:
        require_share("label_smoothing", self.label_smoothing, zero=True)


class Labelled(Objective):
    """Targets are numbers of labels; rows are what `generation.labelling` gives a network to read."""

    def __init__(self, vocabulary: Vocabulary, settings: Any) -> None:
        self.vocabulary, self.settings = vocabulary, settings
        self.begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self.end = np.array(vocabulary.end_ids, dtype=np.int64)

    def input_room(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """All of the context but the tokens around a text."""
        room = room_for_text(context_tokens, len(self.begin) + len(self.end))
        return np.full(len(answer_tokens), room)

    @abstractmethod
    def logits(self, module: Any, batch: Batch) -> Tensor:
        """Logits (num_targets, labels) of the batch's targets."""

    def loss_sum(self, module: Any, batch: Batch) -> Tensor:
        """Summed nats of the labels, smoothed while the module trains."""
        smoothing = self.settings.label_smoothing if module.training else 0.0
        return cross_entropy_sum(self.logits(module, batch), batch.targets, label_smoothing=smoothing)

    def measure(self, module: Any, batch: Batch) -> tuple[Tensor, int]:
        """Summed nats, and the targets whose label is the likeliest one."""
        logits = self.logits(module, batch)
        num_right = int((logits.argmax(-1) == batch.targets).sum())
        return cross_entropy_sum(logits, batch.targets), num_right
