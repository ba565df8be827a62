"""The tokens that typical_p keeps are those of `transformers`."""

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from seedbed.generation.own import own_settings
from seedbed.generation.sampling import candidates
from seedbed.generation.settings import Sampling

LOGITS = torch.randn(16, 300, generator=torch.Generator().manual_seed(1)) * 3
TIED = LOGITS.round()  # each row has about 20 values
MASSES = [1e-4, 0.05, 0.2, 0.5, 0.9, 0.999]
FILTERS = [
    Sampling(1.0),
    Sampling(1.0, top_k=7),
    Sampling(1.0, top_p=0.8),
    Sampling(1.0, min_p=0.05),
    Sampling(1.0, 40, 0.9, 0.01),
]


def kept(logits: Tensor, sampling: Sampling) -> Tensor:
    """Whether each token of the vocabulary is a candidate, (R, V)."""
    scores, ids = candidates(logits, sampling)
    if ids is None:
        return scores.isfinite()
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ids, scores.isfinite())


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize("filters", FILTERS)
def test_the_kept_set_is_that_of_transformers(filters: Sampling, mass: float) -> None:
    expected = LOGITS
    if filters.top_k is not None:
        expected = TopKLogitsWarper(filters.top_k)(None, expected)
    if filters.top_p is not None:
        expected = TopPLogitsWarper(filters.top_p)(None, expected)
    if filters.min_p is not None:
        expected = MinPLogitsWarper(filters.min_p)(None, expected)
    expected = TypicalLogitsWarper(mass)(None, expected)
    ours = kept(LOGITS, filters._replace(typical_p=mass))
    assert torch.equal(ours, expected.isfinite()) and ours.any(-1).all()


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize("filters", FILTERS)
def test_the_kept_scores_are_unchanged_and_ties_stay_together(filters: Sampling, mass: float) -> None:
    before, ids = candidates(TIED, filters)
    after, same_ids = candidates(TIED, filters._replace(typical_p=mass))
    assert torch.equal(after, TypicalLogitsWarper(mass)(None, before))
    assert (ids is None and same_ids is None) or torch.equal(ids, same_ids)
    for row, left in zip(before, after, strict=True):
        assert not set(left[left.isfinite()].tolist()) & set(row[left != row].tolist())


@pytest.mark.parametrize("logits", [LOGITS, TIED])
@pytest.mark.parametrize("filters", FILTERS)
def test_rows_together_are_filtered_as_alone(filters: Sampling, logits: Tensor) -> None:
    sampling = filters._replace(typical_p=0.5)
    alone = torch.cat([kept(row[None], sampling) for row in logits])
    assert torch.equal(kept(logits, sampling), alone)


def test_the_top_token_may_be_removed() -> None:
    logits = torch.tensor([[0.6, 0.15, 0.13, 0.12]]).log()  # entropy 1.11, where 0.6 has 0.51 and 0.12 2.12
    assert kept(logits, Sampling(1.0, typical_p=0.1)).tolist() == [[True, False, False, False]]
    logits = torch.tensor([[0.4] + [0.06] * 10]).log()  # entropy 2.05, nearer to 2.81 than to 0.92
    assert kept(logits, Sampling(1.0, typical_p=0.1)).tolist() == [[False] + [True] * 10]


def test_a_mass_that_rounding_never_reaches_keeps_all_tokens() -> None:
    logits = (torch.randn(16, 5000, generator=torch.Generator().manual_seed(1)) * 3).round()
    expected = TypicalLogitsWarper(0.9999999)(None, logits)  # some rows sum to 0.999998 in float32
    assert torch.equal(candidates(logits, Sampling(1.0, typical_p=0.9999999))[0], expected)
    assert kept(logits, Sampling(1.0, typical_p=1)).all()


def test_one_forced_token_is_kept() -> None:
    logits = torch.full((2, 300), -torch.inf)
    logits[:, 5] = 0
    assert kept(logits, Sampling(1.0, typical_p=0.3)).nonzero().tolist() == [[0, 5], [1, 5]]


def test_a_models_own_is_used_where_it_samples() -> None:
    values = {"do_sample": True, "typical_p": 0.9}
    assert own_settings(values) == {"typical_p": 0.9, "temperature": 1.0}
    assert own_settings(values | {"do_sample": False}) == {"temperature": 0.0}
