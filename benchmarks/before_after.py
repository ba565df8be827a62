"""Speed of this checkout beside another one, turn by turn: decoding and training steps of GPT-2 shapes.

    python -m benchmarks.before_after ../other/checkout [--rounds 40]

One process of each checkout stays open, and they take turns of some steps (before, after, before, after),
so that a drift of the machine falls on both. Of the rounds' ratios the median is printed with its interval
(95%, by bootstrap). An interval that includes 1 shows no difference.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parents[1]
# What is timed: steps of one turn.
CASES = {"decode 1": 16, "decode 8": 8, "train 4 x 128": 6, "train 6 x 384": 2, "train 12 x 768": 1}
PROMPT_TOKENS, CAPACITY, ROWS, CONTEXT = 32, 96, 4, 256


def main() -> None:
    """Measure both checkouts and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    children = [_start(folder.resolve()) for folder in (given.before, HERE)]
    try:
        for name, count in CASES.items():
            turns = [[_ask(child, name, count) for child in children] for _ in range(given.rounds + 1)][1:]
            before, after = (np.array(times) for times in zip(*turns, strict=True))
            ratios = after / before
            low, high = interval(ratios.tolist())
            print(
                f"{name:16} before {1e3 * median(before):8.2f} ms  after {1e3 * median(after):8.2f} ms  "
                f"after / before {median(ratios):.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
    finally:
        for child in children:
            child.stdin.close()
            child.wait()


def interval(values: Sequence[float], *, num_samples: int = 4000) -> tuple[float, float]:
    """The 95% interval of the median, by bootstrap."""
    sample = np.random.default_rng(0).choice(np.array(values), (num_samples, len(values)))
    low, high = np.quantile(np.median(sample, axis=1), (0.025, 0.975))
    return float(low), float(high)


def _start(checkout: Path) -> Any:
    environment = os.environ | {"PYTHONPATH": f"{checkout / 'src'}:{HERE}"}
    command = [sys.executable, "-m", "benchmarks.before_after_child"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE
    )


def _ask(child: Any, name: str, count: int) -> float:
    """Seconds of a step, the median of `count` in one process."""
    child.stdin.write(json.dumps([name, count]) + "\n")
    child.stdin.flush()
    return float(json.loads(child.stdout.readline()))


def serve(cases: dict[str, Callable[[], Callable[[], None]]], seconds_of: Callable[..., float]) -> None:
    """Answer each line of stdin, a case and a number of steps, with the median of their seconds."""
    ready: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        name, count = json.loads(line)
        if name not in ready:
            ready.clear()
            ready[name] = cases[name]()
        print(json.dumps(median(seconds_of(ready[name]) for _ in range(count))), flush=True)


if __name__ == "__main__":
    main()
