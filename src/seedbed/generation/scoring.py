"""Whole rows read many per pass: their log-probabilities and last hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from seedbed.generation.request import Score
from seedbed.models.family import Network
from seedbed.models.transformer import Transformer
from seedbed.nn.layout import Layout

# Tokens per pass, and the number of logits in memory at once (256 MiB in float32).
PASS_TOKENS = 4096
LOGIT_NUMBERS = 1 << 26

# The tokens before, at least one, and the scored ones.
Pair = tuple[Sequence[int], Sequence[int]]


def flat(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Layout]:
    """Rows of token ids as a flat batch: ids (N,) and their layout."""
    ids = torch.tensor([*chain(*rows)], device=device)
    return ids, Layout.of([len(row) for row in rows], device=device)


def source_inputs(rows: Sequence[Sequence[int]], device: torch.device) -> dict[str, Any]:
    """The arguments with which a network reads the rows as its source; none where they have no tokens."""
    return dict(zip(("source", "source_layout"), flat(rows, device), strict=True)) if any(rows) else {}


@torch.inference_mode()
def score_rows(
    module: Network, rows: Sequence[Pair], *, sources: Sequence[Sequence[int]] = ()
) -> list[Score]:
    """The score of each row's second part after its first; an encoder-decoder has a source per row."""
    lengths = [len(before) + len(ids) for before, ids in rows]
    lengths = [a + len(b) for a, b in zip(lengths, sources, strict=True)] if sources else lengths
    scores = {r: Score(0.0, [], [], []) for r, (_, ids) in enumerate(rows) if not ids}
    order = sorted(set(range(len(rows))) - set(scores), key=lengths.__getitem__, reverse=True)
    for members in passes(order, lengths):
        some = [sources[r] for r in members] if sources else []
        found = _scored(module, [rows[r] for r in members], some)
        scores |= dict(zip(members, scores_of([rows[r][1] for r in members], *found), strict=True))
    return [scores[r] for r in range(len(rows))]


def passes(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Group rows into passes of at most PASS_TOKENS tokens, a longer row alone."""
    groups: list[list[int]] = []
    for r in order:
        if groups and sum(lengths[m] for m in groups[-1]) + lengths[r] <= PASS_TOKENS:
            groups[-1].append(r)
        else:
            groups.append([r])
    return groups


def _scored(module: Network, rows: Sequence[Pair], sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    device = module.device
    # The last token predicts nothing.
    inputs, layout = flat([[*before, *ids][:-1] for before, ids in rows], device)
    ends = zip(layout.last_tokens(), rows, strict=True)
    at = [*chain(*(range(end + 1 - len(ids), end + 1) for end, (_, ids) in ends))]  # each target's
    hidden = module(inputs, layout, **source_inputs(sources, device))[torch.tensor(at, device=device)]
    targets = torch.tensor([*chain(*(ids for _, ids in rows))], device=device)
    return target_logprobs(module, hidden, targets)


def target_logprobs(module: Network, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The log-probability (N,) of each of the targets (N,) at hidden states (N, M), and whether it is top-1.

    Of equal logits the first is top-1, as in greedy decoding.
    """
    parts = zip(
        *(x.split(max(1, LOGIT_NUMBERS // module.config.vocab_size)) for x in (hidden, targets)), strict=True
    )
    logprobs, is_top = [], []
    for some, ids in parts:
        logits = module.output(some)
        is_top.append(logits.argmax(-1) == ids)
        logprobs.append(logits.float().log_softmax(-1).gather(-1, ids[:, None])[:, 0])
    return torch.cat(logprobs), torch.cat(is_top)


def scores_of(completions: Sequence[Sequence[int]], logprobs: Tensor, is_top: Tensor) -> Iterator[Score]:
    """The score of each completion from `target_logprobs` (N,) of all their tokens in order."""
    sizes = [len(ids) for ids in completions]
    parts = zip(completions, logprobs.split(sizes), is_top.split(sizes), strict=True)
    for ids, own, top in parts:
        numbers = own.tolist()
        yield Score(sum(numbers), list(ids), numbers, top.tolist())


def batches(
    rows: Sequence[Sequence[int]], device: torch.device
) -> Iterator[tuple[list[int], Tensor, Layout]]:
    """Rows of similar length, PASS_TOKENS tokens together, a longer row alone: indices, ids (N,), layout."""
    groups: list[list[int]] = []
    for r in sorted(range(len(rows)), key=lambda r: len(rows[r])):
        if groups and (len(groups[-1]) + 1) * len(rows[r]) <= PASS_TOKENS:
            groups[-1].append(r)
        else:
            groups.append([r])
    for members in groups:
        yield members, *flat([rows[r] for r in members], device)


@torch.no_grad()
def row_states(module: Network, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Tensor]]:
    """The index of each row with its last hidden states (tokens, d_model) in float32, shorter rows first.

    They are the encoder's if there is one.
    """
    encodes = isinstance(module, Transformer) and module.encoder is not None
    for members, ids, layout in batches(rows, module.device):
        hidden = (module.encode if encodes else module)(ids, layout)  # type: ignore[operator]
        yield from zip(members, hidden.float().split(layout.lengths), strict=True)
