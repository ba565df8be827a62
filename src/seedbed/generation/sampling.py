"""From logits to tokens: temperature, the filters of tokens, and a sample that depends on its own row alone.

A sampled token is the argmax of scores + Gumbel noise, which samples from their softmax (Gumbel 1954;
Maddison et al. 1411.0030, section 2). The noise of a token is a hash of the sample's key and the token's id,
so it needs no generator, is the same integer on every device, and exists for a few candidates without the
rest of the vocabulary. Scores that differ in their last bits (a matmul of another batch size sums in another
order) change a sample only where two noisy scores are that close; the inverse of the cumulative probabilities
would shift every boundary after the change.

Letters: R rows, V vocabulary, C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.base.errors import BundleError
from seedbed.generation.request import TokenLogprob
from seedbed.generation.settings import Sampling

# top-p sorts so many candidates first, and more only where their probabilities sum to too little: sorting
# 50,257 numbers costs 3 ms, finding the 512 largest 0.25 (2 cores, 2026-11).
HEAD = 512
GROUP = 64  # tokens that a sample from the whole vocabulary groups first
_MASK64 = (1 << 64) - 1
_GOLDEN64 = 0x9E3779B97F4A7C15


class Limits(NamedTuple):
    """Where an answer ends, and tokens one of which must be its first or its last; () for any."""

    max_tokens: int
    eos_ids: frozenset[int] = frozenset()
    first_ids: tuple[int, ...] = ()
    last_ids: tuple[int, ...] = ()

    def forced_at(self, position: int) -> tuple[int, ...]:
        """The only tokens allowed at `position`, () for any."""
        if self.last_ids and position == self.max_tokens - 1:
            return self.last_ids
        return self.first_ids if position == 0 else ()


def force(scores: Tensor, forced: Sequence[tuple[int, ...]]) -> Tensor:
    """Scores (R, V) with 0 for the tokens forced[r] of row r and -inf for all others, where any are."""
    if not any(forced):
        return scores
    scores = scores.clone()
    for r, ids in enumerate(forced):
        if ids:
            scores[r] = -torch.inf
            scores[r, list(ids)] = 0
    return scores


def sample_each(
    logits: Tensor, samplings: Sequence[Sampling], *, keys: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """`sample` for rows of logits (R, V) with a Sampling each; rows with equal ones are sampled together."""
    groups: dict[Sampling, list[int]] = {}
    for r, sampling in enumerate(samplings):
        groups.setdefault(sampling, []).append(r)
    if len(groups) == 1:
        return sample(logits, samplings[0], keys=keys)
    parts = [
        sample(logits[members], sampling, keys=[keys[r] for r in members])
        for sampling, members in groups.items()
    ]
    order = torch.tensor(list(chain(*groups.values())), device=logits.device).argsort()
    tokens, scores = (torch.cat(part)[order] for part in zip(*parts, strict=True))
    return tokens, scores


def sample(logits: Tensor, sampling: Sampling, *, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
    """One token per row of logits (R, V) -> tokens (R,) and their noisy scores (R,).

    The scores are finite unless the logits are not. `keys` has a 64-bit number per row (`position_key`); it
    has no effect when temperature is 0.
    """
    if sampling.temperature == 0:
        best, tokens = logits.max(-1)  # propagates NaN, as the samples below do
        return tokens, best
    scores = logits if sampling.temperature == 1 else logits / sampling.temperature
    scores, ids = candidates(scores, sampling)
    if ids is None:
        return _sample_from_all(scores, keys)
    best, at = (scores + gumbel(keys, ids)).max(-1)
    return ids.gather(-1, at[:, None])[:, 0], best


def _sample_from_all(scores: Tensor, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A sample from a whole vocabulary: a GROUP of neighbours by its probability, then one of them.

    Noise for every token instead costs 3 ms for 8 rows of 50,257, this 0.6 (2 cores, 2026-11).
    """
    probabilities, vocab_size = scores.softmax(-1), scores.size(-1)
    whole = vocab_size - vocab_size % GROUP
    mass = probabilities[:, :whole].unflatten(-1, (-1, GROUP)).sum(-1)
    if whole < vocab_size:
        mass = torch.cat([mass, probabilities[:, whole:].sum(-1, keepdim=True)], dim=-1)
    num_groups = mass.size(-1)
    places = torch.arange(num_groups + GROUP, device=scores.device)
    noise = gumbel(keys, places)  # the groups', then that of the places in the group
    best, group = (mass.log() + noise[:, :num_groups]).max(-1)  # one NaN anywhere is in every mass
    ids = group[:, None] * GROUP + places[:GROUP]
    inside = scores.gather(-1, ids.clamp(max=vocab_size - 1)) + noise[:, num_groups:]
    at = inside.masked_fill_(ids >= vocab_size, -torch.inf).argmax(-1, keepdim=True)
    return ids.gather(-1, at)[:, 0], best


def check_finite(scores: Sequence[float]) -> None:
    """Refuse scores that are not finite."""
    if not all(map(math.isfinite, scores)):
        raise BundleError(
            "the network's logits are not finite numbers, so no token can be sampled: its weights are "
            "damaged or its training diverged; take an earlier checkpoint"
        )


def candidates(scores: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """The tokens that may be sampled from scores (R, V): scores (R, C), removed ones -inf, and ids (R, C).

    ids None: the whole vocabulary in its order. The kept set is that of `transformers`, top-k before top-p
    before min-p before typical-p: all that tie with the k-th stay; of those that tie at the edge of top-p the
    higher ids stay (`transformers` leaves that open).
    """
    ids = None
    if sampling.top_k is not None and sampling.top_k < scores.size(-1):
        scores, ids = _top_k(scores, sampling.top_k)
    if sampling.top_p is not None and sampling.top_p < 1:
        scores, ids = _top_p(scores, ids, sampling.top_p)
    if sampling.min_p:
        scores = _min_p(scores, sampling.min_p)
    if sampling.typical_p is not None and sampling.typical_p < 1:
        scores = _typical_p(scores, sampling.typical_p)
    return scores, ids


def _min_p(scores: Tensor, p: float) -> Tensor:
    """Scores (R, C) with at least p times the top probability (Nguyen et al. 2407.01082, section 3)."""
    least = scores.amax(-1, keepdim=True) + math.log(p)
    return scores.masked_fill(scores < least, -torch.inf)


def _typical_p(scores: Tensor, mass: float) -> Tensor:
    """Scores (R, C) of the tokens whose -log p is nearest to the entropy, as many as sum to `mass`, and ties.

    Locally typical sampling (Meister et al. 2202.00666, section 4); the top token may be removed.
    """
    logprobs = scores.log_softmax(-1)
    entropy = -(logprobs * logprobs.exp()).nansum(-1, keepdim=True)  # a removed token's -inf * 0 is nan
    distances = (logprobs + entropy).abs()
    ordered, order = distances.sort(-1)
    cumulated = scores.gather(-1, order).softmax(-1).cumsum(-1)
    last = (cumulated < mass).sum(-1, keepdim=True).clamp_(max=scores.size(-1) - 1)
    return scores.masked_fill(distances > ordered.gather(-1, last), -torch.inf)


def _top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and all that tie with the k-th, largest first."""
    values, ids = scores.topk(k + 1)
    last = values[:, k - 1 : k]
    if not (values[:, k:] == last).any():
        return values[:, :k], ids[:, :k]
    values, ids = scores.topk(int((scores >= last).sum(-1).max()))
    return values.masked_fill(values < last, -torch.inf), ids


def _top_p(scores: Tensor, ids: Tensor | None, p: float) -> tuple[Tensor, Tensor]:
    """The smallest set of each row whose probabilities sum to p (Holtzman et al. 1904.09751), top-1 last."""
    probabilities, vocab_size = scores.softmax(-1), scores.size(-1)
    # In the order of ids, which the stable sort keeps among ties.
    at = _head(scores, probabilities, p) if ids is None else ids.argsort(-1)
    ids = at if ids is None else ids.gather(-1, at)
    scores, order = scores.gather(-1, at).sort(dim=-1, stable=True)
    cumulated = probabilities.gather(-1, at.gather(-1, order)).cumsum(-1)
    if at.size(-1) < vocab_size:  # what the head leaves out is less likely than all in it, and comes first
        cumulated += 1 - cumulated[:, -1:]
    removed = cumulated <= 1 - p
    removed[:, -1] = False
    return scores.masked_fill(removed, -torch.inf), ids.gather(-1, order)


def _head(scores: Tensor, probabilities: Tensor, p: float) -> Tensor:
    """Enough of each row's largest scores that their probabilities sum to over p: sorted ids (R, C)."""
    size = HEAD
    while size < scores.size(-1):
        at = scores.topk(size, sorted=False).indices
        if bool((probabilities.gather(-1, at).sum(-1) > p + 1e-4).all()):
            return at.sort(-1).values
        size *= 8
    return torch.arange(scores.size(-1), device=scores.device).expand_as(scores)


# ---- noise


def request_key(seed: int, prompt_ids: Sequence[int], sample_index: int) -> int:
    """The key of one answer's samples: a hash of the seed, the prompt and the index of the answer."""
    text = f"{seed} {sample_index} {' '.join(map(str, prompt_ids))}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def position_key(key: int, position: int) -> int:
    """The key of one sample: SplitMix64 (Steele et al. 2014) of the answer's key at the position."""
    z = (key + (position + 1) * _GOLDEN64) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def gumbel(keys: Sequence[int], ids: Tensor) -> Tensor:
    """Standard Gumbel noise (R, C) in float32: row r's for the ids (C,) or (R, C) under keys[r].

    Each is SplitMix64 (without its last shift) of the key, id steps on: integers, so the same on every
    device. It becomes -log(-log1p(-u)) with u in (0, 1) finest near 0, where the largest values are.
    """
    z = ids * _signed(_GOLDEN64) + torch.tensor([[_signed(key)] for key in keys], device=ids.device)
    z ^= z >> 30
    z *= _signed(0xBF58476D1CE4E5B9)
    z ^= z >> 27
    z *= _signed(0x94D049BB133111EB)
    # 31 bits to (0, 1 - 2^-24], the largest float32 below 1; few calls, since each costs 10 us per step.
    u = (z >> 33).bitwise_and_(0x7FFFFFFF).float().add_(0.5)
    noise: Tensor = u.mul_(-(1 - 2**-24) * 2**-31).log1p_().neg_().log_().neg_()
    return noise


def _signed(word: int) -> int:
    """The 64-bit two's complement number with the bits of `word`."""
    return word - (1 << 64) if word >= 1 << 63 else word


# ---- reported log-probabilities


def token_logprobs(
    logits: Tensor, tokens: Tensor, sampled: Sequence[int], num_top: Sequence[int]
) -> Sequence[TokenLogprob | None]:
    """The reports of tokens (R,), also given as a list, with the num_top[r] most likely; None for 0.

    These are the network's own log-probabilities under logits (R, V), before temperature and filters.
    """
    if not any(num_top):
        return [None] * len(num_top)
    logprobs = logits.float().log_softmax(-1)
    values, ids = (x.tolist() for x in logprobs.topk(min(max(num_top), logits.size(-1))))
    chosen = logprobs.gather(-1, tokens[:, None])[:, 0].tolist()
    return [
        TokenLogprob(sampled[r], chosen[r], tuple(zip(ids[r], values[r], strict=True))[:num]) if num else None
        for r, num in enumerate(num_top)
    ]
