"""The tokens that may be sampled are those of `transformers`, and samples follow the probabilities alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from seedbed.generation.sampling import (
    HEAD,
    candidates,
    gumbel,
    position_key,
    request_key,
    sample,
    token_logprobs,
)
from seedbed.generation.settings import Sampling


def random_logits(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def keys(num: int, seed: int = 0) -> list[int]:
    return [position_key(request_key(seed, (1, 2), 0), position) for position in range(num)]


def kept(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None = None
) -> Tensor:
    """Our filtered scores (R, V), -inf where a token is removed."""
    scores, ids = candidates(logits / temperature, Sampling(temperature, top_k, top_p, min_p))
    if ids is None:
        return scores
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, scores)


def reference(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None = None
) -> Tensor:
    """The filtered scores of `transformers`, in the order of its `generate`."""
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p is not None and top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    if min_p is not None:
        scores = MinPLogitsWarper(min_p)(None, scores)
    return scores


@pytest.mark.parametrize("top_k", [None, 1, 2, 7, 40, 999, 1000, 5000])
@pytest.mark.parametrize("top_p", [None, 0.0, 1e-6, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("min_p", [None, 0.0, 0.02, 0.4, 1.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 1.7])
def test_the_kept_set_is_that_of_transformers(
    temperature: float, min_p: float | None, top_k: int | None, top_p: float | None
) -> None:
    logits = random_logits(1, 16, 1000)
    ours, theirs = (f(logits, temperature, top_k, top_p, min_p) for f in (kept, reference))
    assert torch.equal(ours, theirs)
    assert (ours.isfinite().sum(-1) >= 1).all()


@pytest.mark.parametrize("scale", [0.01, 1.0, 4.0])  # flat: the head must grow to all; peaked: it is enough
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99])
def test_a_large_vocabulary_keeps_the_same_set(scale: float, top_p: float) -> None:
    logits = random_logits(2, 3, 20_011, scale=scale)
    ours, theirs = kept(logits, 1.0, None, top_p), reference(logits, 1.0, None, top_p)
    # Cumulated float32 probabilities differ in their last bits, so a token at the very edge may fall on
    # either side.
    exact, order = logits.double().sort(-1)
    cumulated = exact.softmax(-1).cumsum(-1)
    at_edge = (cumulated - (1 - top_p)).abs() < 2e-6
    near = torch.zeros_like(at_edge).scatter(-1, order, at_edge)
    differ = ours.isfinite() != theirs.isfinite()
    assert not (differ & ~near).any()
    assert differ.sum() <= 3


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    values=st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    top_k=st.none() | st.integers(1, 45),
    top_p=st.none() | st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.75, 0.9, 1.0]),
)
def test_ties_are_kept_as_in_transformers(values: list[int], top_k: int | None, top_p: float | None) -> None:
    logits = torch.tensor([values], dtype=torch.float32)
    ours, theirs = kept(logits, 1.0, top_k, top_p), reference(logits, 1.0, top_k, top_p)
    if top_p is None or top_p == 1:  # all that tie with the k-th
        assert torch.equal(ours, theirs)
    else:  # as many of those that tie at the edge; which ones, `transformers` leaves to its sort
        assert torch.equal(ours.sort(-1).values, theirs.sort(-1).values)


def test_of_ties_at_the_edge_of_top_p_the_higher_ids_stay() -> None:
    assert kept(torch.zeros(1, 4), 1.0, None, 0.5).isfinite().tolist() == [[False, False, True, True]]
    many = torch.zeros(1, 4 * HEAD)
    many[0, ::4] = 5.0
    stay = kept(many, 1.0, None, 0.5).isfinite()[0].nonzero()[:, 0]
    assert (stay % 4 == 0).all() and stay.tolist() == sorted(stay.tolist())
    assert stay[-1] == 4 * HEAD - 4


def test_rows_filtered_together_are_filtered_as_alone() -> None:
    logits = random_logits(3, 5, 3000)
    logits[2] = logits[2].round()  # ties in one row make the candidates of all more
    for filters in ((5, None, None), (None, 0.8, None), (50, 0.8, None), (None, None, 0.1), (50, 0.8, 0.1)):
        together = kept(logits, 0.7, *filters)
        alone = torch.cat([kept(row[None], 0.7, *filters) for row in logits])
        assert torch.equal(together, alone)


def test_greedy_takes_the_first_of_the_largest() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0], [5.0, 1.0, 5.0]])
    assert sample(logits, Sampling(0, None, None), keys=[])[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    "sampling", [Sampling(0), Sampling(1.0), Sampling(1.0, 2, 0.9), Sampling(1.0, min_p=0.1)]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_give_scores_that_are_not(sampling: Sampling, bad: float) -> None:
    logits = torch.zeros(2, 200)
    logits[:, 5] = 50.0
    logits[1, 150] = bad
    assert sample(logits, sampling, keys=keys(2))[1].isfinite().tolist() == [True, False]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1.0, None, None),
        Sampling(0.6, None, None),
        Sampling(1.0, 5, None),
        Sampling(1.3, None, 0.8),
        Sampling(1.3, min_p=0.2),
        Sampling(1.0, 40, 0.9, 0.1),
    ],
)
def test_samples_follow_the_probabilities(sampling: Sampling) -> None:
    num_samples, vocab = 60_000, 150
    logits = random_logits(4, 1, vocab, scale=1.0)
    tokens, _ = sample(logits.expand(num_samples, -1), sampling, keys=keys(num_samples))
    counts = tokens.bincount(minlength=vocab).double()
    expected = kept(logits, *sampling[:4])[0].double().softmax(-1) * num_samples
    assert (counts[expected == 0] == 0).all()
    inside = expected > 0
    chi_squared = ((counts - expected)[inside] ** 2 / expected[inside]).sum().item()
    degrees = int(inside.sum()) - 1
    assert abs(chi_squared - degrees) < 3 * math.sqrt(2 * degrees)


def test_noise_is_gumbel_and_independent_of_token_position_and_request() -> None:
    vocab, num_samples = 400, 500
    noise = gumbel(keys(num_samples), torch.arange(vocab)).double()
    uniform = (-(-noise).exp()).exp().flatten().sort().values
    steps = torch.linspace(0, 1, uniform.numel(), dtype=torch.float64)
    assert (uniform - steps).abs().max() < 1.63 / math.sqrt(uniform.numel())  # Kolmogorov-Smirnov at 1%
    other = gumbel(keys(num_samples, seed=1), torch.arange(vocab)).double()
    pairs = [
        (noise[:, 1:], noise[:, :-1]),
        (noise[1:], noise[:-1]),
        (noise, other),
        (noise[:, 64:], noise[:, :-64]),
    ]
    for a, b in pairs:
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
        assert abs(correlation) < 4 / math.sqrt(a.numel())


def test_noise_belongs_to_the_token_not_to_its_place() -> None:
    row, ids = keys(3), torch.tensor([[5, 2, 7], [7, 5, 2], [2, 7, 5]])
    assert torch.equal(gumbel(row, ids), gumbel(row, torch.arange(8)).gather(-1, ids))
    assert gumbel(row, torch.arange(100_000)).isfinite().all()


def test_a_sample_survives_the_last_bits_of_its_logits() -> None:
    """Rounding of 1e-5 changes fewer samples than 1e-3 of them, from flat distributions too."""
    for scale in (0.1, 3.0):
        logits = random_logits(5, 256, 20_000, scale=scale)
        shaken = logits + random_logits(6, 256, 20_000, scale=1e-5)
        same = [sample(x, Sampling(1.0, None, None), keys=keys(256))[0] for x in (logits, shaken)]
        assert (same[0] != same[1]).sum() <= 1


def test_keys_differ_by_seed_prompt_sample_and_position() -> None:
    base = request_key(0, (1, 23), 0)
    others = [
        request_key(1, (1, 23), 0),
        request_key(0, (12, 3), 0),
        request_key(0, (1, 23), 1),
        request_key(0, (1,), 0),
    ]
    assert len({base, *others}) == 5
    assert len({position_key(base, position) for position in range(1000)}) == 1000
    assert position_key(0, 0) == 0xE220A8397B1DCDAF  # the first output of SplitMix64 from seed 0


def test_log_probabilities_are_those_of_the_network() -> None:
    logits = random_logits(7, 4, 50)
    tokens = torch.tensor([3, 0, 49, 7])
    first, _, *others = token_logprobs(logits, tokens, tokens.tolist(), [3, 0, 99, 1])
    assert _ is None
    exact = logits.double().log_softmax(-1)
    for row, report, num_top in zip((0, 2, 3), (first, *others), (3, 50, 1), strict=True):
        assert report is not None and report.token_id == tokens[row]
        assert report.logprob == pytest.approx(exact[row, tokens[row]].item(), abs=1e-6)
        best = exact[row].topk(num_top)
        assert [i for i, _ in report.top] == best.indices.tolist()
        assert [value for _, value in report.top] == pytest.approx(best.values.tolist(), abs=1e-6)
