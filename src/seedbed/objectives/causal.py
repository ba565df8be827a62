"""Predict each next token from those before it: what GPT, LLaMA, BLOOM and PaLM were pre-trained with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seedbed.data.batch import Batch, Example
from seedbed.data.records import Record
from seedbed.models.family import Network
from seedbed.nn.loss import cross_entropy_sum


@dataclass(frozen=True)
class Causal:
    """Every token of a record but its first is a target (Radford et al. 2018, equation 1)."""

    name = "causal"
    shapes = ("decoder",)  # what it can train: each token must see those before it alone

    def example(self, record: Record, seed: int) -> Example:
        """Inputs are all ids but the last, targets all but the first; nothing is drawn."""
        return Example(record.ids[:-1], record.ids[1:])

    def loss_sum(self, module: Network, batch: Batch) -> Tensor:
        """Summed nats of the batch's targets; logits are computed where there is a target alone."""
        hidden = module(batch.input_ids, batch.layout)  # (N, M)
        if batch.target_index is not None:
            hidden = hidden.index_select(0, batch.target_index)  # (num_targets, M)
        return cross_entropy_sum(module.output(hidden), batch.targets)


OBJECTIVE = Causal
