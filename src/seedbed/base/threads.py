"""How torch's threads wait, how many kernels and free blocks are cached; set before torch is imported."""

from __future__ import annotations

import os
import sys

# Rounds that a thread of GNU's OpenMP spins before it sleeps. The default of 300,000 is fastest on an idle
# machine and hangs on a busy one; 0 is safe and slow. A training step took 37, 37 and 64 ms with 300,000,
# 10,000 and 0 on an idle machine, and 1196, 157 and 71 ms beside one busy process (4 x 128 GPT-2, 2 cores,
# 2026-11-24).
SPIN_COUNT = "10000"

# Kernels that oneDNN caches, and torch once more, each for one shape of a matmul. Steps differ in tokens, so
# in bfloat16 the default of 1024 each fills the memory: a 3 x 192 LLaMA with 1024 tokens per step took 0.5
# GiB more than its first step after 30 steps and 1.5 GiB more after 300; with 64, 170 MiB (2026-11-24). A
# step of a 4 x 128 GPT-2 uses 15; 150 took 203 MiB with 64, 167 with 24, and no more CPU time (2026-11-28).
CACHED_KERNELS = "24"

# The free blocks of a size that glibc's threads keep from the heap: they lie between those of the large
# tensors, which then do not fit. A 2 x 128 BERT grew by 29 MiB in 40 steps, and by 15 with none (2026-11-28).
TUNABLES, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.tcache_count"


def restart_with_tight_heap() -> None:
    """Replace this process, once, by the same without those blocks; glibc reads the setting at its start."""
    names = os.confstr_names if sys.platform == "linux" else {}
    own = os.environ.get(TUNABLES, "")
    if TUNABLE not in own and "CS_GNU_LIBC_VERSION" in names and os.confstr("CS_GNU_LIBC_VERSION"):
        os.environ[TUNABLES] = ":".join(filter(None, (own, f"{TUNABLE}=0")))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def has_tight_heap() -> bool:
    """Whether this process was started so, by itself or by the user."""
    return TUNABLE in os.environ.get(TUNABLES, "")


def configure_threads() -> None:
    """Let threads spin briefly and then sleep, and cache few kernels, unless the user has set these."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, CACHED_KERNELS)
