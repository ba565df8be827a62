"""From logits to tokens: temperature, top-k, top-p and a draw that depends on its own row alone.

A sampled token is the argmax of scores + Gumbel noise, which draws from their softmax (Gumbel 1954; Maddison
et al. 1411.0030, section 2). The noise of a token is a hash of the draw's key and the token's id, so it needs
no generator, is the same on every device, and exists for a few candidates without the rest of the vocabulary.
Scores that differ in their last bits (a matrix product of another batch size sums in another order) change a
draw only where two noisy scores are that close; drawing by cumulated probabilities would shift every boundary
after the change.

Letters: R rows that draw, V vocabulary, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor

# top-p sorts so many candidates first, and more only where they hold too little: sorting 50,257 numbers costs
# 3 ms, finding the 512 largest 0.25 (2 cores, 2026-11).
HEAD = 512
_MASK64 = (1 << 64) - 1
_GOLDEN64, _GOLDEN32 = 0x9E3779B97F4A7C15, 0x9E3779B1


class Sampling(NamedTuple):
    """How a token is drawn; rows with equal ones draw together. Temperature 0 takes the likeliest token."""

    temperature: float
    top_k: int | None
    top_p: float | None


def draw(logits: Tensor, sampling: Sampling, *, keys: Sequence[int]) -> Tensor:
    """One token for each row of logits (R, V) -> (R,), -1 where the logits are not finite numbers.

    `keys` holds a 64-bit number for each row (`position_key`) and is not looked at when temperature is 0.
    """
    if sampling.temperature == 0:
        best, tokens = logits.max(-1)  # propagates NaN, as the draw below does
        return torch.where(best.isfinite(), tokens, -1)
    scores = logits if sampling.temperature == 1 else logits / sampling.temperature
    scores, ids = candidates(scores, sampling.top_k, sampling.top_p)
    best, at = (scores + gumbel(keys, _all_ids(scores) if ids is None else ids)).max(-1)
    tokens = at if ids is None else ids.gather(-1, at[:, None])[:, 0]
    return torch.where(best.isfinite(), tokens, -1)


def candidates(scores: Tensor, top_k: int | None, top_p: float | None) -> tuple[Tensor, Tensor | None]:
    """The tokens that may be drawn from scores (R, V): their scores (R, C), removed ones -inf, and their ids
    (R, C).

    ids None: the whole vocabulary in its order. The kept set is that of `transformers`, top-k before top-p:
    all that tie with the k-th stay; of those that tie at the edge of top-p the higher ids stay (there it is
    left open).
    """
    ids = None
    if top_k is not None and top_k < scores.size(-1):
        scores, ids = _top_k(scores, top_k)
    if top_p is not None and top_p < 1:
        scores, ids = _top_p(scores, ids, top_p)
    return scores, ids


def _top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and all that tie with the k-th, largest first."""
    values, ids = scores.topk(k + 1)
    last = values[:, k - 1 : k]
    if not (values[:, k:] == last).any():
        return values[:, :k], ids[:, :k]
    values, ids = scores.topk(int((scores >= last).sum(-1).max()))
    return values.masked_fill(values < last, -torch.inf), ids


def _top_p(scores: Tensor, ids: Tensor | None, p: float) -> tuple[Tensor, Tensor]:
    """The fewest of each row whose probabilities reach p (Holtzman et al. 1904.09751), likeliest last."""
    probabilities, outside = scores.softmax(-1), torch.zeros(1, device=scores.device)
    at = (
        _head(scores, probabilities, p) if ids is None else ids.argsort(-1)
    )  # by id: ties keep that order below
    ids = at if ids is None else ids.gather(-1, at)
    if at.size(-1) < scores.size(
        -1
    ):  # what the head leaves out is less likely than all in it, and comes first
        outside = 1 - probabilities.gather(-1, at).sum(-1, keepdim=True)
    scores, order = scores.gather(-1, at).sort(dim=-1, stable=True)
    removed = outside + probabilities.gather(-1, at.gather(-1, order)).cumsum(-1) <= 1 - p
    removed[:, -1] = False
    return scores.masked_fill(removed, -torch.inf), ids.gather(-1, order)


def _head(scores: Tensor, probabilities: Tensor, p: float) -> Tensor:
    """Enough of each row's largest scores to hold more than p of its probability: sorted ids (R, C)."""
    size = HEAD
    while size < scores.size(-1):
        at = scores.topk(size, sorted=False).indices
        if bool((probabilities.gather(-1, at).sum(-1) > p + 1e-4).all()):
            return at.sort(-1).values
        size *= 8
    return _all_ids(scores).expand_as(scores)


def _all_ids(scores: Tensor) -> Tensor:
    return torch.arange(scores.size(-1), device=scores.device)


# ---- noise


def request_key(seed: int, prompt_ids: Sequence[int], sample: int) -> int:
    """What the draws of one answer depend on: the seed, what was asked, and which of the samples this is."""
    text = f"{seed} {sample} {' '.join(map(str, prompt_ids))}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def position_key(key: int, position: int) -> int:
    """The key of one draw of an answer, SplitMix64 (Steele et al. 2014) of its key at the position."""
    z = (key + (position + 1) * _GOLDEN64) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def gumbel(keys: Sequence[int], ids: Tensor) -> Tensor:
    """Standard Gumbel noise (R, C) in float32: row r's for the ids (C,) or (R, C) under keys[r].

    Each is a 32-bit hash (the multipliers and shifts of lowbias32, Wellons 2018) of the id and both halves of
    the key: integers, so the same everywhere. It becomes U = -log1p(-u), u in (0, 1) finest near 0, where the
    winners lie.
    """
    halves = [[_signed(key & 0xFFFFFFFF) for key in keys], [_signed(key >> 32) for key in keys]]
    low, high = torch.tensor(halves, dtype=torch.int32, device=ids.device).unsqueeze(-1)  # (R, 1) each
    z = (ids.int() * _signed(_GOLDEN32)) ^ low
    z ^= (z >> 16).bitwise_and_(0xFFFF)
    z *= _signed(0x21F0AAAD)
    z += high
    z ^= (z >> 15).bitwise_and_(0x1FFFF)
    z *= _signed(0xD35A2D97)
    z ^= (z >> 15).bitwise_and_(0x1FFFF)
    # 31 bits to (0, 1 - 2^-24], the largest float32 below 1.
    u = z.bitwise_and_(0x7FFFFFFF).float().add_(0.5).mul_((1 - 2**-24) * 2**-31)
    noise: Tensor = u.neg_().log1p_().neg_().log_().neg_()
    return noise


def _signed(word: int) -> int:
    """The 32-bit two's complement number with the bits of `word`."""
    return word - (1 << 32) if word >= 1 << 31 else word


# ---- what is told about a draw


def log_probabilities(logits: Tensor, tokens: Tensor, *, num_top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of logits (R, V): the log-probabilities of tokens (R,) and the largest `num_top` with their ids (R,
    num_top).

    They are the network's own, before temperature and filters.
    """
    logprobs = logits.float().log_softmax(-1)
    values, ids = logprobs.topk(min(num_top, logits.size(-1)))
    return logprobs.gather(-1, tokens[:, None])[:, 0], values, ids
