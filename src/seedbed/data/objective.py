"""What is learnt: the contract of the files in `seedbed.objectives`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seedbed.base.errors import ConfigError
from seedbed.base.plugins import PluginPackage
from seedbed.data.batch import Batch, Example
from seedbed.data.corpora import LearnsFrom
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.nn.config import HeadKind
from seedbed.nn.loss import cross_entropy_sum
from seedbed.text.special_form import Blank, Needed


class Objective(ABC):
    """What is learnt from a record, and how; made from a vocabulary and the settings of `[objective]`.

    `shapes` and `heads` are those of the networks that it trains; `head_kind` is that of the head that it
    puts on a network, with the labels of its records. `needs` are the special tokens that it cannot do
    without: a tokenizer that is trained for it has them. `learns_from` says what its records are:
    pieces of documents that share `overlap` tokens with their neighbours (cut anew in each pass, or alike
    in all), or labelled ones. `reads_text_once`: its targets are the text, each token once, so that its
    loss can be told in bits per byte.
    """

    settings_class: ClassVar[type[Any]]
    shapes: ClassVar[tuple[str, ...]]
    heads: ClassVar[tuple[str, ...]] = ("lm",)
    head_kind: ClassVar[HeadKind | None] = None
    needs: ClassVar[tuple[Needed, ...]] = ()
    learns_from: ClassVar[LearnsFrom] = "text"
    overlap: ClassVar[int] = 0
    reads_text_once: ClassVar[bool] = False
    cut_anew: bool = True
    label_smoothing: float = 0.0  # while a network trains; held-out losses are plain

    @abstractmethod
    def __init__(self, vocabulary: Vocabulary, settings: Any) -> None:
        """Errors: ConfigError where the vocabulary lacks a token that it needs."""

    def record_tokens(self, context_tokens: int) -> int:
        """The tokens of a record of text, `overlap` apart, that become a row of the context at most."""
        return context_tokens

    def max_input_tokens(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """The most input tokens of labelled records beside answers of these lengths (num_records,).

        Negative where an answer alone does not fit.
        """
        raise NotImplementedError

    def mixture(self) -> list[tuple[Objective, float]]:
        """What is trained by turns in place of it, with shares of the tokens."""
        return [(self, 1.0)]

    @classmethod
    def blank(cls) -> Blank | None:
        """What stands for a gap in the rows that it trains with, None where there are no gaps."""
        return next((role for role in cls.needs if role != "eos"), None)

    @abstractmethod
    def example(self, record: Record, seed: int) -> Example:
        """The row that is learnt from a record; depends on (seed, record) alone."""

    def logits(self, module: Any, batch: Batch) -> Tensor:
        """Logits (num_targets, V or labels) of the batch's targets."""
        return target_logits(module, batch)

    def loss_sum(self, module: Any, batch: Batch) -> Tensor:
        """The loss summed over the batch's targets in nats, a scalar; smoothed while the module trains."""
        smoothing = self.label_smoothing if module.training else 0.0
        return cross_entropy_sum(self.logits(module, batch), batch.targets, label_smoothing=smoothing)

    def measure(self, module: Any, batch: Batch) -> tuple[Tensor, int]:
        """The plain loss summed, and the number of targets that are the likeliest of all."""
        logits = self.logits(module, batch)
        num_right = int((logits.argmax(-1) == batch.targets).sum())
        return cross_entropy_sum(logits, batch.targets), num_right


OBJECTIVES: PluginPackage[type[Objective]] = PluginPackage("seedbed.objectives", "OBJECTIVE")


@dataclass(frozen=True, kw_only=True)
class SmoothedSettings:
    """The keys of `[objective]` of those with label smoothing."""

    label_smoothing: float = 0.0  # in training; held-out losses are plain. 0.1 in Vaswani et al. 2017

    def __post_init__(self) -> None:
        require_share("label_smoothing", self.label_smoothing, zero=True)


def target_logits(module: Any, batch: Batch) -> Tensor:
    """A network's logits (num_targets, V) of the batch's targets, computed nowhere else."""
    hidden = module(batch.input_ids, batch.layout, **batch.source)  # (N, M)
    if batch.target_index is not None:
        hidden = hidden.index_select(0, batch.target_index)  # (num_targets, M)
    logits: Tensor = module.output(hidden)
    return logits


def require_share(key: str, value: float, *, zero: bool = False) -> None:
    """Refuse a setting of `[objective]` that is no share of a whole."""
    if not (0 < value < 1 or (zero and value == 0)):
        allowed = "0 or more and below 1" if zero else "above 0 and below 1"
        raise ConfigError(f"objective.{key}={value} cannot be; allowed: {allowed}")


def max_text_tokens(context_tokens: int, num_around: int) -> int:
    """The tokens of text that a context has room for between control tokens."""
    if context_tokens <= num_around:
        raise ConfigError(
            f"training.context_tokens={context_tokens} has no room beside {num_around} control tokens; raise "
            f"it to {num_around + 1} at least"
        )
    return context_tokens - num_around
