"""Log-probabilities of tokens, many rows per pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from seedbed.generation.request import Score
from seedbed.models.family import Network
from seedbed.nn.layout import Layout

# Tokens per pass, and the number of logits in memory at once (256 MiB in float32).
PASS_TOKENS = 4096
LOGIT_NUMBERS = 1 << 26

# The tokens before, at least one, and the scored ones.
Pair = tuple[Sequence[int], Sequence[int]]


@torch.inference_mode()
def score_rows(
    module: Network, rows: Sequence[Pair], *, sources: Sequence[Sequence[int]] = ()
) -> list[Score]:
    """The score of each row's second part after its first; rows of similar length are read together.

    An encoder-decoder has a source per row.
    """
    lengths = [len(before) + len(ids) for before, ids in rows]
    lengths = [a + len(b) for a, b in zip(lengths, sources, strict=True)] if sources else lengths
    scores = {r: Score(0.0, [], []) for r, (_, ids) in enumerate(rows) if not ids}
    order = sorted(set(range(len(rows))) - set(scores), key=lengths.__getitem__, reverse=True)
    for members in passes(order, lengths):
        some = [sources[r] for r in members] if sources else []
        logprobs = _logprobs(module, [rows[r] for r in members], some)
        for r in members:
            ids = list(rows[r][1])
            own, logprobs = logprobs[: len(ids)], logprobs[len(ids) :]
            scores[r] = Score(sum(own), ids, own)
    return [scores[r] for r in range(len(rows))]


def passes(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group rows into passes of at most PASS_TOKENS tokens, a longer row alone."""
    members: list[int] = []
    for r in order:
        if members and sum(lengths[m] for m in members) + lengths[r] > PASS_TOKENS:
            yield members
            members = []
        members.append(r)
    if members:
        yield members


def _logprobs(module: Network, rows: Sequence[Pair], sources: Sequence[Sequence[int]]) -> list[float]:
    """The log-probability of each scored token, row after row."""
    device = module.device
    inputs: list[int] = []
    targets: list[int] = []
    at: list[int] = []  # where each target is predicted
    lengths: list[int] = []
    for before, ids in rows:
        read = [*before, *ids][:-1]  # the last token predicts nothing
        at += range(len(inputs) + len(before) - 1, len(inputs) + len(before) - 1 + len(ids))
        inputs += read
        targets += ids
        lengths.append(len(read))
    source: dict[str, Any] = {}
    if sources:
        layout = Layout.of([len(ids) for ids in sources], device=device)
        source = {"source": torch.tensor([*chain(*sources)], device=device), "source_layout": layout}
    layout = Layout.of(lengths, device=device)
    hidden = module(torch.tensor(inputs, device=device), layout, **source)[torch.tensor(at, device=device)]
    logprobs = target_logprobs(module, hidden, torch.tensor(targets, device=device))
    return list(logprobs.tolist())


def target_logprobs(module: Network, hidden: Tensor, targets: Tensor) -> Tensor:
    """The log-probability (N,) of each of the targets (N,) at hidden states (N, M)."""
    parts = zip(
        *(x.split(max(1, LOGIT_NUMBERS // module.config.vocab_size)) for x in (hidden, targets)), strict=True
    )
    return torch.cat(
        [module.output(some).float().log_softmax(-1).gather(-1, ids[:, None])[:, 0] for some, ids in parts]
    )
