"""Speed of this checkout beside another one, alternating: decoding and training steps of GPT-2 shapes.

    python -m benchmarks.before_after ../other/checkout [--rounds 40]

One process of each checkout stays open, with its own copy of this file, and they run some steps in turn
(before, after, before, after), so that a drift of the machine affects both. The median of the rounds' ratios
is printed with its interval (95%, by bootstrap). An interval that includes 1 shows no difference.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measuring import parser_of, seconds_of

HERE = Path(__file__).parents[1]
# The timed steps of one turn, and a shape to train: d_model, layers, vocabulary.
CASES: dict[str, tuple[int, tuple[int, ...]]] = {
    "decode 1": (16, ()),
    "decode 8": (8, ()),
    "train 4 x 128": (6, (128, 4, 4096)),
    "train 6 x 384": (2, (384, 6, 4096)),
    "train 12 x 768": (1, (768, 12, 50_257)),
}
PROMPT_TOKENS, CAPACITY, ROWS, CONTEXT = 32, 96, 4, 256


def main() -> None:
    """Measure both checkouts and print the ratios; with --serve, be the process of one checkout."""
    parser = parser_of(__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    if sys.argv[1:] == ["--serve"]:
        serve()
        return
    given = parser.parse_args()
    children = [_start(folder.resolve()) for folder in (given.before, HERE)]
    try:
        for name, (count, _) in CASES.items():
            rounds = [[_request(child, name, count) for child in children] for _ in range(given.rounds + 1)]
            before, after = zip(*rounds[1:], strict=True)
            ratios = [a / b for b, a in rounds[1:]]
            low, high = interval(ratios)
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
    """Return the 95% interval of the median, by bootstrap."""
    import numpy as np

    sample = np.random.default_rng(0).choice(np.array(values), (num_samples, len(values)))
    low, high = np.quantile(np.median(sample, axis=1), (0.025, 0.975))
    return float(low), float(high)


def _start(checkout: Path) -> Any:
    environment = os.environ | {"PYTHONPATH": f"{checkout / 'src'}:{checkout}"}
    command = [sys.executable, "-m", "benchmarks.before_after", "--serve"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
    )


def _request(child: Any, name: str, count: int) -> float:
    """Return the seconds of a step, the median of `count`, in one process."""
    child.stdin.write(json.dumps([name, count]) + "\n")
    child.stdin.flush()
    return float(json.loads(child.stdout.readline()))


def serve() -> None:
    """Answer each line of stdin, a case and a number of steps, with the median of their seconds."""
    from seedbed.base.threads import configure_threads

    configure_threads()  # as the command line does, before torch is loaded
    ready: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        name, count = json.loads(line)
        if name not in ready:
            ready.clear()
            shape = CASES[name][1]
            ready[name] = training(*shape) if shape else decoding(int(name.split()[1]))
        print(json.dumps(median(seconds_of(ready[name]) for _ in range(count))), flush=True)


def decoding(batch: int) -> Callable[[], None]:
    """Return a step of greedy answers, which start again when they end."""
    import seedbed
    from seedbed.generation.request import GenerationSettings, Request

    lm = seedbed.new("gpt2:124m", seed=0)
    settings = GenerationSettings(max_new_tokens=CAPACITY, temperature=0.0, eos_ids=())
    running: list[Any] = []

    def step() -> None:
        if not running or not running[0].is_busy:
            running[:] = [lm.engine()]
            for row in range(batch):
                running[0].submit(Request(tuple(range(row, row + PROMPT_TOKENS)), settings))
            running[0].step()
            running[0].step()
        running[0].step()

    return step


def training(d_model: int, num_layers: int, vocab_size: int) -> Callable[[], None]:
    """Return a step of the loop's own parts, of 1,024 tokens."""
    import torch

    from seedbed.data.loader import Loader, MixturePart, micro_batches
    from seedbed.data.records import RecordSource
    from seedbed.models.network import build, family, initialize
    from seedbed.objectives.causal import Causal
    from seedbed.training.loop import TrainStep
    from seedbed.training.optimizer import OPTIMIZERS
    from seedbed.training.settings import TrainingSettings

    config = replace(family("gpt2").sized(d_model, num_layers), vocab_size=vocab_size, dropout=0.0)
    settings = TrainingSettings(num_steps=200, batch_tokens=ROWS * CONTEXT, context_tokens=CONTEXT)
    module = build(config)
    initialize(module, torch.Generator().manual_seed(0))
    ids = torch.randint(vocab_size, (ROWS * 8, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    loader = Loader([MixturePart(RecordSource(ids.tolist()), Causal())], batch_tokens=ROWS * CONTEXT, seed=0)
    optimizer, compute = OPTIMIZERS.get("adamw")(module, settings), TrainStep(module, Causal())

    def step() -> None:
        (batch,) = micro_batches(loader.next_step())
        loss, count = compute(batch)
        (loss / count).backward()
        optimizer.step(0.01, gradient_scale=1.0)
        for parameter in module.parameters():
            parameter.grad = None

    return step


if __name__ == "__main__":
    main()
