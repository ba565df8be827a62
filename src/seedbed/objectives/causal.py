"""Predict each next token: the objective of GPT, LLaMA, BLOOM and PaLM."""

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

    name: Literal["causal"] = "causal"  # the objective, also --objective


class Causal(Objective):
    """Every token of a record except the first is a target (Radford et al. 2018, equation 1)."""

    settings_class = Settings
    shapes = ("decoder",)  # a token must not see later ones
    overlap = 1  # the last target of a span is the first input of the next
    reads_text_once = True

    def __init__(self, vocabulary: Vocabulary | None = None, settings: Settings | None = None) -> None:
        """Needs no special token."""

    def example(self, record: Record, seed: int) -> Example:
        """Inputs are all ids except the last, targets all except the first; `seed` is not used."""
        return Example(record.ids[:-1], record.ids[1:])


OBJECTIVE = Causal
