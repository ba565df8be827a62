"""The causal objective equals the formula of labels shifted by one."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seedbed.data.batch import Batch, Example, collate
from seedbed.data.records import Record
from seedbed.objectives.causal import Causal


class Bigram(torch.nn.Module):
    """Hidden states that are the token's row of a table, logits that are these: easy to compute by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))
        self.read: list[int] = []

    def forward(self, ids: torch.Tensor, layout: object) -> torch.Tensor:
        """ids (N,) -> (N, 20)."""
        return self.table[ids]

    def output(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same (n, 20)."""
        self.read.append(len(hidden))
        return hidden * 1.0


def test_inputs_and_targets_are_the_record_shifted_by_one() -> None:
    example = Causal().example(Record(np.array([5, 6, 7, 8]), (0, 0)), 0)
    assert example.input_ids.tolist() == [5, 6, 7]
    assert example.targets.tolist() == [6, 7, 8]
    assert example.target_index is None


def test_the_loss_is_that_of_the_shifted_labels() -> None:
    module, rows = Bigram(), [[1, 2, 3, 4], [7, 7, 9]]
    batch = collate([Causal().example(Record(np.array(row), (0, i)), 0) for i, row in enumerate(rows)])
    inputs, labels = [i for row in rows for i in row[:-1]], [i for row in rows for i in row[1:]]
    expected = F.cross_entropy(module.table[inputs], torch.tensor(labels), reduction="sum")
    assert Causal().loss_sum(module, batch).item() == pytest.approx(expected.item(), rel=1e-6)
    assert batch.num_targets == 5


def test_logits_are_computed_where_there_is_a_target_and_nowhere_else() -> None:
    module = Bigram()
    batch = collate([Example(np.arange(10), np.array([3, 4]), np.array([2, 9]))])
    loss = Causal().loss_sum(module, batch)
    expected = F.cross_entropy(module.table[[2, 9]], torch.tensor([3, 4]), reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert module.read == [2]


def test_gradients_equal_autograd_of_the_plain_formula() -> None:
    module, ids = Bigram(), torch.arange(10)
    batch: Batch = collate([Causal().example(Record(ids.numpy(), (0, 0)), 0)])
    Causal().loss_sum(module, batch).backward()
    ours = module.table.grad
    (plain,) = torch.autograd.grad(
        F.cross_entropy(module.table[ids[:-1]], ids[1:], reduction="sum"), module.table
    )
    assert ours is not None
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-7)
