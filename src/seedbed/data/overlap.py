"""How much of the held-out part is also in the training part."""

from __future__ import annotations

from array import array

import numpy as np

LEAST_CHARACTERS = 32  # of a line of text that counts: shorter ones repeat by chance
SAMPLED = 4  # one line in so many is compared, by its hash
WORTH_A_WARNING, LEAST_FOUND = 0.05, 5


class Overlap:
    """Compares the lines of texts, or the inputs of records, of both sides, without their white space."""

    def __init__(self, *, of_lines: bool) -> None:
        self._of_lines = of_lines
        self._hashes = (array("q"), array("q"))  # of training, held out

    def add(self, text: str, validates: bool) -> None:
        """Add a document, or the input of a record."""
        for line in text.splitlines() if self._of_lines else (text,):
            key = " ".join(line.split())
            hashed = hash(key)
            if not self._of_lines or (len(key) >= LEAST_CHARACTERS and hashed % SAMPLED == 0):
                self._hashes[validates].append(hashed)

    @property
    def share(self) -> float:
        """The share of the held-out lines or inputs that are also in the training part; 0 for a handful."""
        train, held = (np.frombuffer(hashes, np.int64) for hashes in self._hashes)
        found = np.isin(held, train).sum() if len(held) and len(train) else 0
        return float(found / len(held)) if found >= LEAST_FOUND else 0.0
