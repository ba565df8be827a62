"""Figures of the likelihood that a model gives the references themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seedbed.evaluation.metrics.bootstrap import Numbers, WeightedScore, ratio_score


class Likelihood(NamedTuple):
    """The log-probability of a reference after its prompt in nats, its tokens, and its bytes in UTF-8."""

    logprob: float
    num_tokens: int
    num_bytes: int


def weighted_perplexity(found: Sequence[Likelihood]) -> WeightedScore:
    """The exponential of the mean negative log-probability per token, over all references."""
    mean = ratio_score([(-one.logprob, one.num_tokens) for one in found])

    def score(weights: Numbers) -> Numbers:
        perplexity: Numbers = np.exp(mean(weights))
        return perplexity

    return score


def weighted_bits_per_byte(found: Sequence[Likelihood]) -> WeightedScore:
    """The negative log-probability in bits over the bytes of all references; of any tokenizer."""
    return ratio_score([(-one.logprob / math.log(2), one.num_bytes) for one in found])


LIKELIHOODS = {"perplexity": weighted_perplexity, "bits_per_byte": weighted_bits_per_byte}
