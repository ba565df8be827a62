"""Scores of rows that begin alike: what they share is read once, and its state copied.

In-context learning asks for several short completions after each of many prompts, which all begin with the
same examples: the examples are read once, each prompt once for all of its completions of one token, and only
the scored positions reach the output layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import torch

from seedbed.generation.request import Score
from seedbed.generation.rows import state_bytes
from seedbed.generation.scoring import PASS_TOKENS, Pair, passes, target_logprobs
from seedbed.models.family import Network

# Fewer tokens are read again as fast as their state is copied.
MIN_SHARED = 32
STATE_BYTES = 1 << 28  # of the rows that are read at once


def shared_tokens(rows: Sequence[Pair]) -> int:
    """How many tokens all rows begin with, at most all of the shortest first part but one."""
    shortest = min(len(before) for before, _ in rows) - 1
    first = rows[0][0]
    same = (all(before[i] == first[i] for before, _ in rows) for i in range(shortest))
    return next((i for i, is_same in enumerate(same) if not is_same), max(0, shortest))


@torch.inference_mode()
def score_shared(module: Network, rows: Sequence[Pair], num_shared: int) -> list[Score]:
    """The score of each row's second part after its first; all first parts begin with `num_shared` tokens."""
    # A sequence is read once, whatever the last token after it is.
    members: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for r, (before, ids) in enumerate(rows):
        if ids:
            read = (*before[num_shared:], *ids[:-1])
            members.setdefault((read, len(ids)), []).append(r)
    sequences = list(members)
    lengths = [len(read) for read, _ in sequences]
    found: dict[int, list[float]] = {r: [] for r, (_, ids) in enumerate(rows) if not ids}
    order = sorted(range(len(sequences)), key=lengths.__getitem__, reverse=True)
    at_once = max(1, STATE_BYTES // state_bytes(module, num_shared + max(lengths, default=0)))
    groups = [
        group[i : i + at_once] for group in passes(order, lengths) for i in range(0, len(group), at_once)
    ]
    if groups:
        most = max(map(len, groups))
        state = module.start(1, num_shared + max(lengths))
        prefix = rows[0][0][:num_shared]
        for start in range(0, num_shared, PASS_TOKENS):
            part = torch.tensor(prefix[start : start + PASS_TOKENS], device=module.device)
            module.extend(state, part, state.layout([len(part)]))
        state.select([0] * most)
        begun = state.snapshot()
    for group in groups:
        counts = [lengths[s] for s in group] + [0] * (most - len(group))
        tokens = torch.tensor([*chain(*(sequences[s][0] for s in group))], device=module.device)
        hidden = module.extend(state, tokens, state.layout(counts))
        at, targets, owners = list[int](), list[int](), list[int]()
        for s, end in zip(group, accumulate(counts), strict=False):
            for r in members[sequences[s]]:
                scored = rows[r][1]
                at += range(end - len(scored), end)
                targets += scored
                owners.append(r)
        places, wanted = (torch.tensor(numbers, device=module.device) for numbers in (at, targets))
        logprobs = target_logprobs(module, hidden[places], wanted).tolist()
        for r in owners:
            found[r], logprobs = logprobs[: len(rows[r][1])], logprobs[len(rows[r][1]) :]
        state.rollback(begun)
    return [Score(sum(found[r]), list(ids), found[r]) for r, (_, ids) in enumerate(rows)]
