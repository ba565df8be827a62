"""The held-out loss, and for labels the accuracy, with 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from seedbed.base.runtime import Runtime, derive_seed
from seedbed.data.batch import collate, row_lengths
from seedbed.data.loader import one_pass
from seedbed.data.objective import Objective
from seedbed.data.records import Sample, Source, generator
from seedbed.training.intervals import Numbers, mean_interval, share_interval

NUM_GROUPS = 40  # of neighbouring spans of text, which resemble each other


class Validation(NamedTuple):
    """Held-out records, their objective, and the bytes of text per target where the targets are the text."""

    source: Source
    objective: Objective
    bytes_per_target: float | None = None

    def sampled(self, num_tokens: int, *, seed: int) -> Validation:
        """The same with a fixed random sample of its records, of at most `num_tokens` input tokens.

        0: all of them. A sample has at least one record; it is read from the longest to the shortest.
        """
        if not num_tokens:
            return self
        order = generator(derive_seed(seed, "evaluation")).permutation(self.source.order(0))
        lengths: list[int] = []
        total = 0
        for record in self.source.read(0, order):
            length = self.objective.example(record, seed).num_tokens
            total += length
            if lengths and total > num_tokens:
                break
            lengths.append(length)
        longest_first = np.argsort(-np.array(lengths), kind="stable")
        return self._replace(source=Sample(self.source, order[longest_first]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The sums of each record, (num_records,), in the order of the corpus.

    `labels` and `predicted` are numbers of labels, an array for each record; they are empty for text, and
    lack the records of other ranks.
    """

    nats: Numbers
    num_targets: Numbers
    num_right: Numbers
    labels: list[NDArray[np.int64]]
    predicted: list[NDArray[np.int64]]
    is_text: bool
    bytes_per_target: float | None

    @property
    def loss(self) -> float:
        """Nats per target."""
        return float(self.nats.sum() / self.num_targets.sum())

    def to_dict(self) -> dict[str, Any]:
        """The figures, each with its interval: loss in nats, bits_per_byte, accuracy of labels."""
        count = min(NUM_GROUPS, len(self.nats)) if self.is_text else len(self.nats)
        groups = np.array_split(np.stack([self.nats, self.num_targets], 1), count)
        sums = np.stack([group.sum(0) for group in groups])
        found: dict[str, Any] = {"loss": self.loss, "bits_per_byte": None, "bits_per_byte_interval": None}
        found["loss_interval"] = interval = mean_interval(sums[:, 0], sums[:, 1])
        if self.bytes_per_target is not None:
            bits = 1 / math.log(2) / self.bytes_per_target
            found["bits_per_byte"] = self.loss * bits
            found["bits_per_byte_interval"] = interval and (interval[0] * bits, interval[1] * bits)
        if self.labels:
            found["accuracy"] = float(self.num_right.sum() / self.num_targets.sum())
            found["accuracy_interval"] = share_interval(self.num_right, self.num_targets)
        return found | {"num_targets": int(self.num_targets.sum()), "num_records": len(self.nats)}


@torch.no_grad()
def evaluate(
    module: nn.Module,
    validation: Validation,
    *,
    batch_tokens: int,
    seed: int,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """One pass over the held-out records, divided among the ranks; the module stays in evaluation mode.

    None if `should_stop`, on which all ranks agree, ended it early.
    """
    module.eval()
    objective = validation.objective
    sums: dict[int, tuple[float, ...]] = {}  # by the number of the record
    labels: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    groups = one_pass(validation.source, objective, batch_tokens=batch_tokens, seed=seed)
    for i, (numbers, examples) in enumerate(groups):
        sums |= dict.fromkeys(numbers, (0.0, 0.0, 0.0))
        if i % runtime.world_size == runtime.rank:
            rows = sorted(zip(numbers, examples, strict=True), key=lambda row: row_lengths(row[1]))
            batch = collate([example for _, example in rows]).to(runtime.device)
            with runtime.autocast():
                nats, predicted = objective.measure(module, batch)
            right = nats.new_zeros(len(nats)) if predicted is None else (predicted == batch.targets)
            both = torch.stack([nats.double(), right.double()], 1).cpu().numpy()  # (num_targets, 2)
            first = 0
            for number, example in rows:
                part = slice(first, first + len(example.targets))
                nats_sum, num_right = both[part].sum(0).tolist()
                sums[number] = (nats_sum, float(len(example.targets)), num_right)
                if predicted is not None:
                    labels[number] = (example.targets, predicted[part].cpu().numpy())
                first = part.stop
        if i % runtime.world_size == runtime.world_size - 1 and should_stop():
            return None
    numbers = sorted(sums)
    total = runtime.sum_over_ranks([value for number in numbers for value in sums[number]])
    columns = np.array(total).reshape(-1, 3).T
    pairs = [labels[number] for number in numbers if number in labels]
    return Evaluation(
        nats=columns[0],
        num_targets=columns[1],
        num_right=columns[2],
        labels=[pair[0] for pair in pairs],
        predicted=[pair[1] for pair in pairs],
        is_text=objective.learns_from == "text",
        bytes_per_target=validation.bytes_per_target,
    )
