"""What a training or a generation holds in tensors at its highest moment, by part.

The real modules run once on fake tensors, which have shapes and no memory, while every storage that comes and
goes is counted. So the count is exact for every family, objective and optimizer, and needs no formulas.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from seedbed.base.runtime import Runtime
from seedbed.data.batch import Batch, collate
from seedbed.data.records import Record
from seedbed.models.family import Config, Network
from seedbed.models.network import build
from seedbed.nn.layout import Layout
from seedbed.select.ledger import StorageLedger
from seedbed.training.optimizer import OPTIMIZERS, trainable
from seedbed.training.settings import TrainingSettings
from seedbed.training.train_step import Objective, TrainStep


def even_batch(num_tokens: int, row_tokens: int, *, vocab_size: int, objective: Objective) -> Batch:
    """A batch of `num_tokens` input tokens, in as few rows of one length as have at most `row_tokens`."""
    num_rows = max(1, -(-num_tokens // row_tokens))
    ids = np.arange(num_tokens // num_rows + 1) % vocab_size
    return collate([objective.example(Record(ids, (0, row)), 0) for row in range(num_rows)])


def training_bytes(
    config: Config, settings: TrainingSettings, *, batch: Batch, objective: Objective, runtime: Runtime
) -> dict[str, int]:
    """Bytes by part at the highest moment of a step on `batch`: weights, gradients, optimizer, activations
    (kept for the backward pass), logits, temporary (everything else).
    """
    runtime = replace(runtime, device=torch.device("cpu"))
    ledger = StorageLedger("weights")
    with FakeTensorMode(allow_non_fake_inputs=True), ledger:
        module = build(config)
        module.set_activation_checkpointing(settings.checkpoint_activations)
        _book_logits(module, ledger)
        with ledger.booking("optimizer"):
            optimizer = OPTIMIZERS.get(settings.optimizer)(module, settings)
        ledger.begin_peak()
        with ledger.booking("activations"), runtime.autocast():
            loss, _ = TrainStep(module, objective).train()(batch)
        with ledger.booking("temporary"):
            loss.backward()
            del loss
            gradients = [p.grad for p in trainable(module).values() if p.grad is not None]
            torch._foreach_norm(gradients)
            optimizer.step(1.0, gradient_scale=0.5)
        ledger.move(gradients, "gradients")
        return ledger.parts_at_peak()


def generation_bytes(config: Config, *, num_rows: int, prompt_tokens: int, capacity: int) -> dict[str, int]:
    """Bytes by part at the highest moment of a generation in float32: weights, decode state, logits,
    activations.

    `num_rows` prompts are read together; the state has room for `capacity` tokens a row.
    """
    ledger = StorageLedger("weights")
    counts = [prompt_tokens] * num_rows
    ids, layout = torch.zeros(sum(counts), dtype=torch.int64), Layout.of(counts)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), ledger:
        module = build(config).eval()
        _book_logits(module, ledger)
        with ledger.booking("decode_state"):
            state = module.start(num_rows, capacity)
        ledger.begin_peak()
        with ledger.booking("activations"):
            hidden = module.extend(state, ids, layout)
            module.output(hidden[layout.last_tokens()])
        return ledger.parts_at_peak()


def _book_logits(module: Network, ledger: StorageLedger) -> None:
    """Let what the module's output makes be booked on a part of its own."""
    output = module.output

    def booked(hidden: Tensor) -> Tensor:
        with ledger.booking("logits"):
            return output(hidden)

    object.__setattr__(module, "output", booked)
