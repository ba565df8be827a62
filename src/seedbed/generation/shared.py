"""Scores of rows that begin alike: what they share is read once, and its state copied.

In-context learning asks for several short completions after each of many prompts, which all begin with the
same examples: the examples are read once, each prompt once for all of its completions of one token, and only
the scored positions reach the output layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import torch

from seedbed.generation.request import Request, Score
from seedbed.generation.rows import state_bytes
from seedbed.generation.scoring import PASS_TOKENS, Pair, passes, scores_of, target_logprobs
from seedbed.models.family import Network

# Fewer tokens are read again as fast as their state is copied.
MIN_SHARED = 32
STATE_BYTES = 1 << 28  # of the rows that are read at once


def num_shared(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, at most all of the shortest one but one."""
    shortest = min(map(len, rows)) - 1
    same = (all(row[i] == rows[0][i] for row in rows) for i in range(shortest))
    return next((i for i, is_same in enumerate(same) if not is_same), max(0, shortest))


def shared_tokens(rows: Sequence[Pair]) -> int:
    """How many tokens the first parts of all rows begin with, at most all of the shortest but one."""
    return num_shared([before for before, _ in rows])


def shared_ids(requests: Sequence[Request]) -> Sequence[int]:
    """The tokens that the prompts of several requests begin with; none where they are few."""
    prompts = [request.prompt_ids for request in requests]
    number = num_shared(prompts) if len(prompts) > 1 else 0
    return prompts[0][:number] if number >= MIN_SHARED else ()


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
    found = {r: Score(0.0, [], [], []) for r, (_, ids) in enumerate(rows) if not ids}
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
        scores = scores_of([rows[r][1] for r in owners], *target_logprobs(module, hidden[places], wanted))
        found |= dict(zip(owners, scores, strict=True))
        state.rollback(begun)
    return [found[r] for r in range(len(rows))]
