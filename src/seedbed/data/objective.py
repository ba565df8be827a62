"""What is learnt: the contract of the files in `seedbed.objectives`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seedbed.base.errors import ConfigError
from seedbed.base.rooms import Room
from seedbed.data.batch import Batch, Example
from seedbed.data.corpora import LearnsFrom
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.nn.config import HeadKind


class Objective(ABC):
    """What is learnt from a record, and how; made from a vocabulary and the settings of `[objective]`.

    `shapes` and `heads` are those of the networks that it trains; `head_kind` is that of the head that it
    puts on a network, with the labels of its records. `learns_from` says what its records are:
    pieces of documents that share `overlap` tokens with their neighbours (cut anew in each pass, or alike
    in all), or labelled ones. `reads_text_once`: its targets are the text, each token once, so that its
    loss can be told in bits per byte.
    """

    settings_class: ClassVar[type[Any]]
    shapes: ClassVar[tuple[str, ...]]
    heads: ClassVar[tuple[str, ...]] = ("lm",)
    head_kind: ClassVar[HeadKind | None] = None
    learns_from: ClassVar[LearnsFrom] = "text"
    overlap: ClassVar[int] = 0
    reads_text_once: ClassVar[bool] = False
    cut_anew: bool = True

    @abstractmethod
    def __init__(self, vocabulary: Vocabulary, settings: Any) -> None:
        """Errors: ConfigError where the vocabulary lacks a token that it needs."""

    def record_tokens(self, context_tokens: int) -> int:
        """The tokens of a record of text, `overlap` apart, that become a row of the context at most."""
        return context_tokens

    def input_room(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """The most input tokens of labelled records beside answers of these lengths (num_records,).

        Negative where an answer alone does not fit.
        """
        raise NotImplementedError

    def mixture(self) -> list[tuple[Objective, float]]:
        """What is trained by turns in place of it, with shares of the tokens."""
        return [(self, 1.0)]

    @abstractmethod
    def example(self, record: Record, seed: int) -> Example:
        """The row that is learnt from a record; depends on (seed, record) alone."""

    @abstractmethod
    def loss_sum(self, module: Any, batch: Batch) -> Tensor:
        """The loss summed over the batch's targets, a scalar."""

    def measure(self, module: Any, batch: Batch) -> tuple[Tensor, int]:
        """With a `head_kind`: the held-out loss summed, and the number of targets that are told right."""
        raise NotImplementedError


OBJECTIVES: Room[type[Objective]] = Room("seedbed.objectives", "OBJECTIVE")


def require_share(key: str, value: float, *, zero: bool = False) -> None:
    """Refuse a setting of `[objective]` that is no share of a whole."""
    if not (0 < value < 1 or (zero and value == 0)):
        allowed = "0 or more and below 1" if zero else "above 0 and below 1"
        raise ConfigError(f"objective.{key}={value} cannot be; allowed: {allowed}")


def room_for_text(context_tokens: int, num_around: int) -> int:
    """The tokens of text that a context has room for between control tokens."""
    if context_tokens <= num_around:
        raise ConfigError(
            f"training.context_tokens={context_tokens} has no room beside {num_around} control tokens; raise "
            f"it to {num_around + 1} at least"
        )
    return context_tokens - num_around
