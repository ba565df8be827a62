"""Probes: features are a network's own, and a softmax regression finds what is linear in them."""

import pytest
import torch
from tests.objectives import small

from seedbed.evaluation.probe import WEIGHT_DECAY, features, probe_hits, share_of
from seedbed.nn.layout import Layout


@pytest.mark.parametrize("name", ["gpt2", "lstm", "bert", "t5"])
def test_features_are_the_states_of_each_row_alone(name: str) -> None:
    module = small.network(name).eval()
    rows = [[1, 2, 3, 4], [5, 6], [7, 8, 9]]
    for row, found in zip(rows, features(module, rows), strict=True):
        read = module.encode if getattr(module, "encoder", None) is not None else module
        with torch.no_grad():
            alone = read(torch.tensor(row), Layout.of([len(row)]))  # type: ignore[operator]
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


def test_a_linear_rule_is_found_and_noise_is_not() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(600, 8, generator=rng)
    y = (x @ torch.randn(8, 3, generator=rng)).argmax(1)
    hits = probe_hits((x[:400], y[:400]), (x[400:], y[400:]), num_classes=3)
    assert hits.mean() > 0.93
    noise = torch.randint(3, (600,), generator=rng)
    assert probe_hits((x[:400], noise[:400]), (x[400:], noise[400:]), num_classes=3).mean() < 0.45


def test_the_fit_is_the_minimum_that_plain_descent_finds() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(60, 3, generator=rng)
    y = (x[:, 0] + 0.5 * torch.randn(60, generator=rng) > 0).long()
    scaled = ((x - x.mean(0)) / x.std(0)).double()
    weight, bias = (torch.zeros(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3), (2,)))
    optimizer = torch.optim.SGD([weight, bias], lr=0.5)
    for _ in range(2000):
        optimizer.zero_grad()
        logits = scaled @ weight.T + bias
        (torch.nn.functional.cross_entropy(logits, y) + WEIGHT_DECAY * weight.square().sum()).backward()
        optimizer.step()
    expected = (scaled @ weight.T + bias).argmax(1) == y
    assert torch.equal(probe_hits((x, y), (x, y), num_classes=2), expected.float())


def test_a_share_has_its_interval() -> None:
    share = share_of(torch.tensor([1.0] * 60 + [0.0] * 40))
    assert share["value"] == pytest.approx(0.6)
    low, high = share["interval"]  # type: ignore[misc]
    assert low == pytest.approx(0.6 - 0.0952, abs=0.004) and high == pytest.approx(0.6 + 0.0952, abs=0.004)
    assert share_of(torch.zeros(50))["interval"][1] > 0.01  # type: ignore[index]
