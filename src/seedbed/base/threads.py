"""How torch's threads wait for each other; to be said before torch is imported, so it imports none."""

from __future__ import annotations

import os

# Rounds that a thread of GNU's OpenMP spins before it sleeps. Its own 300,000 are fastest alone and hang on a
# busy machine, none is safe and slow: a training step took 37, 37 and 64 ms alone with 300,000, 10,000 and 0,
# and 1196, 157 and 71 beside one busy process (4 x 128 GPT-2, 2 cores, 2026-11-24).
SPIN_COUNT = "10000"


def spin_briefly() -> None:
    """Let threads spin for a moment and then sleep, unless the user has said how they wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
