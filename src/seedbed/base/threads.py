"""How torch's threads wait, how many kernels are kept; to be said before torch, so it imports none."""

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


# Kernels that oneDNN keeps, and torch for it once more, each made for one shape of a product. Steps differ in
# tokens, so in bfloat16 their own 1024 each only fill the memory: 3 x 192 LLaMA, 1024 tokens a step, took 0.5
# GiB above its first step after 30 steps and 1.5 GiB after 300; with 64 it stayed 170 MiB above (2026-11-24).
KEPT_KERNELS = "64"


def keep_few_kernels() -> None:
    """Let few kernels be kept, unless the user has said how many."""
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, KEPT_KERNELS)
