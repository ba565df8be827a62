"""The share of programs that pass their tests (pass@1, Chen et al. 2107.03374)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from seedbed.evaluation.locked_process import require_lock, run_locked
from seedbed.evaluation.metrics.bootstrap import WeightedScore, mean_score


def weighted_pass(tests: Sequence[str], programs: Sequence[str]) -> WeightedScore:
    """The share of programs that run to their end with their tests behind them, each in a locked process.

    Errors: UsageError where the system cannot lock a process.
    """
    require_lock()
    wholes = [f"{program}\n\n{test}\n" for program, test in zip(programs, tests, strict=True)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        outcomes = list(threads.map(run_locked, wholes))
    return mean_score([float(outcome.passed) for outcome in outcomes])
