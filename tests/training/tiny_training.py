"""A training small enough for a test, in this process or, as a script, in others that can be killed.

python tiny_training.py RUN '{"num_steps": 12, "dropout": 0.1}'
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seedbed.base.errors import SeedbedError
from seedbed.base.runtime import Runtime
from seedbed.data.loader import Loader, MixturePart
from seedbed.data.records import RecordSource
from seedbed.models.network import build, family, initialize
from seedbed.objectives.causal import Causal
from seedbed.training.budget import Costs, Deadline
from seedbed.training.evaluation import Validation
from seedbed.training.loop import Callback, train
from seedbed.training.resume import Progress
from seedbed.training.run_folder import RunFolder
from seedbed.training.settings import TrainingSettings

VOCAB_SIZE = 61
SETTINGS = TrainingSettings(
    num_steps=12,
    batch_tokens=96,
    context_tokens=24,
    learning_rate=3e-3,
    evaluate_every_steps=4,
    checkpoint_every_steps=5,
)


def network(
    name: str = "gpt2", *, d_model: int = 32, dropout: float = 0.0, vocab_size: int = VOCAB_SIZE
) -> nn.Module:
    """A fresh network of two layers; the same each time."""
    config = family(name).sized(d_model, 2)
    config = replace(config, vocab_size=vocab_size, dropout=dropout)
    module = build(config)
    initialize(module, torch.Generator().manual_seed(1))
    return module


def records(count: int = 64, *, seed: int = 0) -> list[list[int]]:
    """Counting in steps of 1 to 3 from anywhere, 6 to 25 ids: something that a small network can learn."""
    random = np.random.default_rng(seed)
    starts, strides = random.integers(0, VOCAB_SIZE, count), random.integers(1, 4, count)
    lengths = random.integers(6, 26, count)
    return [
        [int((start + i * stride) % VOCAB_SIZE) for i in range(length)]
        for start, stride, length in zip(starts, strides, lengths, strict=True)
    ]


def start(
    folder: Path,
    *,
    name: str = "gpt2",
    d_model: int = 32,
    dropout: float = 0.0,
    runtime: Runtime | None = None,
    callbacks: Sequence[Callback] = (),
    module: nn.Module | None = None,
    fingerprints: Mapping[str, str] | None = None,
    deadline: Deadline | None = None,
    evaluate_first: bool = False,
    peak_tokens_per_second: float = 0.0,
    **changes: Any,
) -> tuple[nn.Module, Progress]:
    """Train, or resume, in a run folder."""
    settings = replace(SETTINGS, **changes)
    runtime = runtime or Runtime(precision="float32" if settings.precision == "auto" else settings.precision)
    module = module or network(name, d_model=d_model, dropout=dropout)
    held_out = records(9, seed=1)
    per_target = 500 / sum(len(ids) - 1 for ids in held_out)
    validation = Validation(RecordSource(held_out, shuffle=False), Causal(), per_target)
    loader = Loader(
        [MixturePart(RecordSource(records(), seed=settings.seed), Causal())],
        batch_tokens=settings.batch_tokens,
        seed=settings.seed,
    )
    with RunFolder(folder, writable=runtime.is_main, keep_checkpoints=settings.keep_checkpoints) as run:
        run.settle(settings)
        progress = train(
            module,
            loader,
            objective=Causal(),
            settings=settings,
            run=run,
            runtime=runtime,
            validation=validation,
            evaluate_first=evaluate_first,
            peak_tokens_per_second=peak_tokens_per_second,
            callbacks=callbacks,
            fingerprints=fingerprints,
            deadline=deadline,
        )
    return module, progress


class Announcer:
    """Prints the events on stdout, so that a test can act at that moment."""

    def begin(self, step: int, num_steps: int) -> None:
        print("begin", step, flush=True)

    def record(self, line: Mapping[str, Any]) -> None:
        print(line["kind"], line["step"], flush=True)

    def end(self) -> None:
        print("end", flush=True)


class Machine:
    """A clock that a step moves on by a second, and by more after the step `slow_from`.

    As a callback it follows the training. An evaluation takes 2 s, and a checkpoint no time.
    """

    def __init__(self, *, slow_from: int = 10**9, slowness: float = 2.0) -> None:
        self.now, self.slow_from, self.slowness = 1000.0, slow_from, slowness

    def deadline(self) -> Deadline:
        """The clock of a command that began 5 s ago, and whose end takes 3 s."""
        planned = Costs(step=1.0, evaluation=2.0, checkpoint=0.0, end=1.0)
        return Deadline(planned, started=self.now - 5.0, clock=lambda: self.now)

    def begin(self, step: int, num_steps: int) -> None:
        """Nothing."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Let the time pass that the work took."""
        slow = self.slowness if line["step"] > self.slow_from else 1.0
        self.now += {"step": 1.0, "evaluation": 2.0}.get(line["kind"], 0.0) * slow

    def end(self) -> None:
        """Nothing."""


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        with Runtime.from_environment("cpu") as runtime:
            options, callbacks = json.loads(sys.argv[2]), [Announcer()]
            if (slow_from := options.pop("slow_from", None)) is not None and runtime.is_main:
                machine = Machine(slow_from=slow_from)
                options["deadline"], callbacks = machine.deadline(), [machine, *callbacks]
            start(Path(sys.argv[1]), runtime=runtime, callbacks=callbacks, **options)
    except SeedbedError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
