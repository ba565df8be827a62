"""The process of one checkout that `benchmarks.before_after` asks for the time of steps."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import seedbed.base.threads as threads

threads.spin_briefly()  # as the command line does, before torch is loaded
threads.keep_few_kernels()

import torch  # noqa: E402
from benchmarks.before_after import CAPACITY, CONTEXT, PROMPT_TOKENS, ROWS, serve  # noqa: E402
from benchmarks.measuring import seconds_of  # noqa: E402

import seedbed  # noqa: E402
from seedbed.data.loader import Loader, MixturePart, micro_batches  # noqa: E402
from seedbed.data.records import RecordSource  # noqa: E402
from seedbed.generation.request import GenerationSettings, Request  # noqa: E402
from seedbed.models.network import build, family, initialize  # noqa: E402
from seedbed.objectives.causal import Causal  # noqa: E402
from seedbed.training.loop import TrainStep  # noqa: E402
from seedbed.training.optimizer import OPTIMIZERS  # noqa: E402
from seedbed.training.settings import TrainingSettings  # noqa: E402


def decoding(batch: int) -> Callable[[], None]:
    """Steps of greedy answers, begun again where they end."""
    lm = seedbed.new("gpt2:124m", seed=0)
    how = GenerationSettings(max_new_tokens=CAPACITY, temperature=0.0, eos_ids=())
    running: list[Any] = []

    def step() -> None:
        if not running or not running[0].is_busy:
            running[:] = [lm.engine()]
            for row in range(batch):
                running[0].submit(Request(tuple(range(row, row + PROMPT_TOKENS)), how))
            running[0].step()
            running[0].step()
        running[0].step()

    return step


def training(d_model: int, num_layers: int, vocab_size: int) -> Callable[[], None]:
    """Steps of the loop's own parts, 1,024 tokens each."""
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


serve(
    {
        "decode 1": partial(decoding, 1),
        "decode 8": partial(decoding, 8),
        "train 4 x 128": partial(training, 128, 4, 4096),
        "train 6 x 384": partial(training, 384, 6, 4096),
        "train 12 x 768": partial(training, 768, 12, 50_257),
    },
    seconds_of,
)
