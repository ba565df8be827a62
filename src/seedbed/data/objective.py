"""The contract of the files in `seedbed.objectives`: how text or labelled records train a network."""

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
from seedbed.data.forms import LearnsFrom
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.nn.config import HeadKind
from seedbed.nn.loss import cross_entropy_sum, target_nats


class Objective(ABC):
    """How a record becomes a training example and its loss; made of a vocabulary and the `[objective]` table.

    - `settings_class`: the keys of `[objective]`, a frozen dataclass whose `name` is the file's.
    - `shapes`, `heads`: of the networks that it trains. `head_kind`: of the head with labels that it puts on
      a network, None where it trains the network's own head.
    - `needs`: the special tokens that it needs, each a role ("eos", "mask", "sentinels") or the text of a
      token of its own ("<|fim_middle|>"). A tokenizer that is trained for it gets them. `__init__` checks
      them with `vocabulary.require(self.needs, settings.name)`; `vocabulary.special_tokens` has their ids.
    - `infill`: how a decoder that it trained is prompted to fill one blank, such as
      "<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>"; a saved model keeps it.
    - `learns_from`: "text" (records are spans of documents), "pairs", "labels", "tags" or
      "conversations".
    - `overlap`: the number of tokens that neighbouring spans of a document share; `cut_anew`: each pass cuts
      documents at other places.
    - `reads_text_once`: its targets are the text, each token once, so its loss converts to bits per byte.
    """

    settings_class: ClassVar[type[Any]]
    shapes: ClassVar[tuple[str, ...]]
    heads: ClassVar[tuple[str, ...]] = ("lm",)
    head_kind: ClassVar[HeadKind | None] = None
    needs: ClassVar[tuple[str, ...]] = ()
    infill: ClassVar[str | None] = None
    learns_from: ClassVar[LearnsFrom] = "text"
    overlap: ClassVar[int] = 0
    reads_text_once: ClassVar[bool] = False
    cut_anew: bool = True
    label_smoothing: float = 0.0  # of the training loss alone

    @abstractmethod
    def __init__(self, vocabulary: Vocabulary, settings: Any) -> None:
        """Errors: ConfigError where the vocabulary lacks a token that it needs."""

    def record_tokens(self, context_tokens: int) -> int:
        """Maximum number of tokens of a span of text, without `overlap`, whose row is within the context."""
        return context_tokens

    def max_input_tokens(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """Maximum number of input tokens beside answers of these lengths, both (num_records,).

        Negative where the answer alone is longer than the context. Objectives that learn from text have none.
        """
        raise NotImplementedError

    def mixture(self) -> list[tuple[Objective, float]]:
        """Return the objectives that are trained in its place, each with its share of the tokens."""
        return [(self, 1.0)]

    @classmethod
    def blank(cls) -> str | None:
        """How its models fill blanks (BLANK_KEY in text/special_form.py); None where they fill none."""
        return cls.infill or next((role for role in cls.needs if role in ("mask", "sentinels")), None)

    @classmethod
    def use(cls) -> str:
        """What its models do, in a sentence for a model card."""
        if cls.learns_from != "text":
            return "It answers a prompt in the manner of the answers in its data."
        if cls.infill is not None:
            return "It completes text in the manner of its data, and fills a blank between two texts."
        if cls.shapes == ("encoder",):
            return "It fills masked tokens of a text; it does not write from left to right."
        if cls.blank() is not None:
            return "It fills blanks of a text, of several tokens each."
        return "It completes text in the manner of its data."

    @abstractmethod
    def example(self, record: Record, seed: int) -> Example:
        """Make the training example of a record; it depends on (seed, record) alone."""

    def logits(self, module: Any, batch: Batch) -> Tensor:
        """Return logits (num_targets, V or labels) of the batch's targets."""
        return target_logits(module, batch)

    def loss_sum(self, module: Any, batch: Batch) -> Tensor:
        """Return the loss summed over the batch's targets in nats, smoothed while `module.training`."""
        smoothing = self.label_smoothing if module.training else 0.0
        return cross_entropy_sum(self.logits(module, batch), batch.targets, label_smoothing=smoothing)

    def measure(self, module: Any, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the nats of each target (num_targets,), without smoothing, and the predicted labels, if any.

        Predicted labels (num_targets,) are numbers of labels; None where the targets are tokens.
        """
        logits = self.logits(module, batch)
        predicted = None if self.head_kind is None else logits.argmax(-1)
        return target_nats(logits, batch.targets), predicted


OBJECTIVES: PluginPackage[type[Objective]] = PluginPackage("seedbed.objectives", "OBJECTIVE")


@dataclass(frozen=True, kw_only=True)
class SmoothedSettings:
    """The keys of `[objective]` of objectives with label smoothing."""

    # Share of the target's probability that goes to all tokens; 0.1 in Vaswani 2017. [0 or more and below 1]
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_share("label_smoothing", self.label_smoothing, zero=True)


def target_logits(module: Any, batch: Batch) -> Tensor:
    """Return a network's logits (num_targets, V), computed at the batch's targets alone."""
    hidden = module(batch.input_ids, batch.layout, **batch.source)  # (N, M)
    if batch.target_index is not None:
        hidden = hidden.index_select(0, batch.target_index)  # (num_targets, M)
    logits: Tensor = module.output(hidden)
    return logits


def require_share(key: str, value: float, *, zero: bool = False) -> None:
    """Raise a ConfigError where a setting of `[objective]` is not a share between 0 and 1."""
    if not (0 < value < 1 or (zero and value == 0)):
        allowed = "0 or more and below 1" if zero else "above 0 and below 1"
        raise ConfigError(f"objective.{key}={value} is not allowed: give a number {allowed}")


def max_text_tokens(context_tokens: int, num_around: int) -> int:
    """Return the number of tokens of text in a context beside `num_around` special tokens."""
    if context_tokens <= num_around:
        raise ConfigError(
            f"training.context_tokens={context_tokens} leaves no token for text beside {num_around} special "
            f"tokens; set it to at least {num_around + 1}"
        )
    return context_tokens - num_around
