"""Answer in a conversation, in the model's own chat template: every answer of the assistant is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seedbed.data.batch import Example
from seedbed.data.objective import Objective, SmoothedSettings
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Settings(SmoothedSettings):
    """The `[objective]` table of this objective."""

    name: Literal["conversation"] = "conversation"  # the objective, also --objective


class Conversation(Objective):
    """A row is a whole conversation; the targets are the tokens of its answers and the ends of their turns.

    The template writes all special tokens, so that a row is what `chat` reads (Ouyang et al. 2203.02155,
    section 3.5; on all turns of the assistant as in Touvron et al. 2307.09288, section 3.1).
    """

    settings_class = Settings
    shapes = ("decoder",)
    learns_from = "conversations"

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        self.vocabulary, self.label_smoothing = vocabulary, settings.label_smoothing

    def max_input_tokens(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """The context and the token that its last one predicts; a longer conversation is left out."""
        return np.full(len(answer_tokens), context_tokens + 1)

    def example(self, record: Record, seed: int) -> Example:
        """Make the row; an answer is 1 for each token that is a target; `seed` is not used."""
        assert record.answer is not None
        targets = np.flatnonzero(record.answer[1:])  # the positions before them, which predict them
        return Example(record.ids[:-1], record.ids[targets + 1], targets)


OBJECTIVE = Conversation
