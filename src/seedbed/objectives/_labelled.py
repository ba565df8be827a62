"""The base of the objectives with labels: a text with its special tokens, and a head with labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seedbed.data.objective import Objective, SmoothedSettings, max_text_tokens
from seedbed.data.vocabulary import Vocabulary


class Labelled(Objective):
    """Targets are numbers of labels; rows are those of `generation.labelling`."""

    def __init__(self, vocabulary: Vocabulary, settings: SmoothedSettings) -> None:
        self.vocabulary, self.label_smoothing = vocabulary, settings.label_smoothing
        self.begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self.end = np.array(vocabulary.end_ids, dtype=np.int64)

    def max_input_tokens(self, answer_tokens: NDArray[np.int64], context_tokens: int) -> NDArray[np.int64]:
        """The whole context without the special tokens around a text."""
        num_tokens = max_text_tokens(context_tokens, len(self.begin) + len(self.end))
        return np.full(len(answer_tokens), num_tokens)
