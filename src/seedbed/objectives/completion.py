"""Write the answer to a prompt, with the loss on the answer alone: instruction tuning, translation."""

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

    name: Literal["completion"] = "completion"  # the objective, also --objective


class Completion(Objective):
    """The targets are the answer and its end token (Wei et al. 2109.01652; Sutskever et al. 1409.3215).

    A decoder reads prompt and answer in one row; in an encoder-decoder the encoder reads the prompt.
    """

    settings_class = Settings
    shapes = ("decoder", "encoder-decoder")
    needs = ("eos",)
    learns_from = "pairs"

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        vocabulary.require(self.needs, settings.name)
        self.vocabulary, self.label_smoothing = vocabulary, settings.label_smoothing
        self._begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self._end = np.array(vocabulary.end_ids, dtype=np.int64)
        self._closing = np.array(vocabulary.closing_ids, dtype=np.int64)

    def max_input_tokens(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """A decoder reads input and answer in one context, an encoder-decoder in two."""
        begin, end, closing = len(self._begin), len(self._end), len(self._closing)
        if self.vocabulary.decoder_start_id is None:
            return context_tokens + 1 - begin - closing - answer_tokens
        most = np.full(len(answer_tokens), context_tokens - begin - end)
        most[begin + closing + answer_tokens > context_tokens] = -1
        return most

    def example(self, record: Record, seed: int) -> Example:
        """Make the row of a pair; `seed` is not used."""
        assert record.answer is not None
        start_id = self.vocabulary.decoder_start_id
        if start_id is None:
            prompt = np.concatenate([self._begin, record.ids])
            row = np.concatenate([prompt, record.answer, self._closing])
            first = max(1, len(prompt))  # nothing predicts the first token of a row
            return Example(row[:-1], row[first:], np.arange(first - 1, len(row) - 1))
        source = np.concatenate([self._begin, record.ids, self._end])
        targets = np.concatenate([self._begin, record.answer, self._closing])
        return Example(np.concatenate([[start_id], targets[:-1]]), targets, source_ids=source)


OBJECTIVE = Completion
