"""Predict each next token from those before it: what GPT, LLaMA, BLOOM and PaLM were pre-trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seedbed.data.batch import Example
from seedbed.data.objective import Objective
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[objective]` table of this objective."""

    name: Literal["causal"] = "causal"


class Causal(Objective):
    """Every token of a record but its first is a target (Radford et al. 2018, equation 1)."""

    settings_class = Settings
    shapes = ("decoder",)  # each token must see those before it alone
    overlap = 1  # the last target of a piece is the first input of the next
    reads_text_once = True

    def __init__(self, vocabulary: Vocabulary | None = None, settings: Settings | None = None) -> None:
        """It needs to know nothing of the vocabulary."""

    def example(self, record: Record, seed: int) -> Example:
        """Inputs are all ids but the last, targets all but the first; nothing is drawn."""
        return Example(record.ids[:-1], record.ids[1:])


OBJECTIVE = Causal
