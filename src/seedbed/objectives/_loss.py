"""The loss of tokens to be predicted, which most objectives share."""

from __future__ import annotations

from torch import Tensor

from seedbed.data.batch import Batch
from seedbed.models.family import Network
from seedbed.nn.loss import cross_entropy_sum


def hidden_states(module: Network, batch: Batch) -> Tensor:
    """What the network makes of a batch, (N, M)."""
    source = {} if batch.source_ids is None else {"source": batch.source_ids}
    if batch.source_layout is not None:
        source |= {"source_layout": batch.source_layout}  # type: ignore[dict-item]
    hidden: Tensor = module(batch.input_ids, batch.layout, **source)
    return hidden


def target_logits(module: Network, batch: Batch) -> Tensor:
    """Logits (num_targets, V) of the batch's targets, computed nowhere else."""
    hidden = hidden_states(module, batch)
    if batch.target_index is not None:
        hidden = hidden.index_select(0, batch.target_index)  # (num_targets, M)
    return module.output(hidden)


def targets_loss(module: Network, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Summed nats of the batch's targets."""
    return cross_entropy_sum(target_logits(module, batch), batch.targets, label_smoothing=label_smoothing)
