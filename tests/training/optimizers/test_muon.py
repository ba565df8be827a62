"""Muon's parts against an SVD and against the recipe written out one matrix at a time."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seedbed.models.network import build, family, initialize
from seedbed.nn.layout import Layout
from seedbed.nn.linear import named_parts
from seedbed.training.optimizer import OPTIMIZERS
from seedbed.training.optimizers import muon
from seedbed.training.optimizers.muon import POLYNOMIALS, orthogonalize
from seedbed.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    optimizer="muon", learning_rate=0.01, matrix_learning_rate=0.02, weight_decay=0.1, beta1=0.8
)


def network() -> torch.nn.Module:
    module = build(replace(family("seedling").sized(32, 2), vocab_size=40))
    initialize(module, torch.Generator().manual_seed(0))
    return module


def learn(module: torch.nn.Module, step: int) -> None:
    """Fill the gradients, other ones each step."""
    generator = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 32, 128), (2, 128, 32)])
def test_singular_values_become_about_1_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    got = u.mT @ orthogonalize(x) @ v.mT  # diagonal if the vectors are kept
    diagonal = torch.diagonal(got, dim1=-2, dim2=-1)
    assert (got - torch.diag_embed(diagonal)).abs().max() < 1e-4
    assert diagonal.median() == pytest.approx(1.0, abs=0.2)
    # A matrix's own singular values, sent through the polynomials one by one.
    expected = s / (torch.linalg.vector_norm(x, dim=(-2, -1)) * 1.02)[:, None]
    for a, b, c in POLYNOMIALS:
        expected = a * expected + b * expected**3 + c * expected**5
    torch.testing.assert_close(diagonal, expected, rtol=1e-3, atol=1e-3)


def one_matrix(weight: Tensor, gradients: list[Tensor]) -> Tensor:
    """The rule for one matrix as its papers write it, in float64."""
    weight, average, power = weight.double(), torch.zeros_like(weight).double(), torch.zeros(1)
    axis = 1 if weight.shape[0] >= weight.shape[1] else 0
    for step, gradient in enumerate(gradients):
        beta = 0.85 + 0.1 * min(1, step / 300)
        average = beta * average + (1 - beta) * gradient.double()
        x = (1 - beta) * gradient.double() + beta * average
        x = x / (x.norm() * 1.02 + 1e-7)
        u, s, v = torch.linalg.svd(x, full_matrices=False)
        for a, b, c in POLYNOMIALS:
            s = a * s + b * s**3 + c * s**5
        x = u @ torch.diag(s) @ v
        power = 0.95 * power + 0.05 * x.pow(2).mean(axis, keepdim=True)
        evened = x / (power / (1 - 0.95 ** (step + 1)) + 1e-8).sqrt()
        evened = evened * x.norm() / (evened.norm() + 1e-7)
        rate = 0.02 / (step + 1)
        weight = weight * (1 - rate * 0.1) - rate * max(1, x.shape[0] / x.shape[1]) ** 0.5 * evened
    return weight


def test_every_matrix_of_the_layers_follows_the_rule_and_all_else_adamw() -> None:
    module = network()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = OPTIMIZERS.get("muon")(module, SETTINGS)
    gradients: dict[str, list[Tensor]] = {name: [] for name in before}
    for step in range(3):
        learn(module, step)
        for name, p in module.named_parameters():
            gradients[name].append(p.grad.clone())
        optimizer.step(1 / (step + 1))
    after = dict(module.named_parameters())
    inner = [name for name in after if "blocks" in name and after[name].ndim == 2]
    assert len(inner) == 8
    for name in inner:
        rows = 32 if "qkv" in name else len(before[name])  # q, k and v each on its own
        for start in range(0, len(before[name]), rows):
            part = slice(start, start + rows)
            expected = one_matrix(before[name][part], [g[part] for g in gradients[name]])
            torch.testing.assert_close(after[name][part].double(), expected, rtol=1e-3, atol=1e-5)
    others = [name for name in after if name not in inner]
    twins = [torch.nn.Parameter(before[name]) for name in others]
    reference = torch.optim.AdamW(twins, betas=(0.8, 0.95), weight_decay=0.0, eps=1e-10, fused=True)
    for step in range(3):
        for name, twin in zip(others, twins, strict=True):
            twin.grad = gradients[name][step]
        reference.param_groups[0]["lr"] = 0.01 / (step + 1)
        reference.step()
    for name, twin in zip(others, twins, strict=True):
        torch.testing.assert_close(after[name], twin, rtol=0, atol=0)


def test_small_stacks_take_the_steps_of_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = network(), network()
    for most, module in zip((muon.STACK_NUMBERS, 1), modules, strict=True):
        monkeypatch.setattr(muon, "STACK_NUMBERS", most)
        optimizer = OPTIMIZERS.get("muon")(module, SETTINGS)
        for step in range(3):
            learn(module, step)
            optimizer.step(1.0, gradient_scale=0.5)
    for one, other in zip(*(module.parameters() for module in modules), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_the_updates_are_those_of_float32_but_for_rounding() -> None:
    weights = []
    for precision in ("float32", "bfloat16"):
        module = network()
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        optimizer = OPTIMIZERS.get("muon")(module, replace(SETTINGS, precision=precision))
        for step in range(3):
            learn(module, step)
            optimizer.step(1.0)
        weights.append({name: p.detach() - before[name] for name, p in module.named_parameters()})
    one, other = weights
    for name, update in one.items():
        rounded = (other[name] - update).norm() / update.norm()
        assert rounded == 0 if "blocks" not in name else 1e-5 < rounded < 0.03, (name, rounded)


def test_the_state_is_the_memory_itself_and_names_every_matrix() -> None:
    module = network()
    optimizer = OPTIMIZERS.get("muon")(module, SETTINGS)
    state = optimizer.state()
    qkv = [name for name in state if "blocks.0" in name and "qkv" in name and name.endswith("momentum")]
    assert len(qkv) == 3
    learn(module, 0)
    optimizer.step(1.0)
    assert all(state[name].abs().sum() > 0 for name in qkv)


def test_a_gradient_of_zero_moves_nothing_and_is_finite() -> None:
    module = network()
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = OPTIMIZERS.get("muon")(module, replace(SETTINGS, weight_decay=0.0))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    for old, new in zip(before, module.parameters(), strict=True):
        assert torch.equal(old, new)


def test_a_network_whose_weights_hold_the_scales_learns_as_one_that_multiplies_by_them() -> None:
    # T5 holds the scale of attention in its queries, and large numbers in the table that gives the logits.
    usual = replace(family("gpt2").sized(32, 2), num_heads=2, vocab_size=40, bias="none", dropout=0.0)
    usual = replace(usual, tie_embeddings=False)
    scaled = replace(usual.with_attention(scale=1.0), output_scale=32**-0.5)
    factors = {"q": usual.d_head**-0.5, "unembed": 32**0.5}
    ours, theirs = build(scaled).double(), build(usual).double()
    initialize(theirs, torch.Generator().manual_seed(0))
    parts = dict(named_parts(ours))

    def factor(name: str) -> float:
        return next((f for part, f in factors.items() if part in name.split(".")), 1.0)

    with torch.no_grad():
        for name, part in named_parts(theirs):
            part *= 10  # so that attention has something to say from the first step
            parts[name].copy_(part * factor(name))
    ids = torch.randint(40, (2, 33), generator=torch.Generator().manual_seed(1))
    layout = Layout.of([32, 32])
    losses = []
    for module in (ours, theirs):
        optimizer = OPTIMIZERS.get("muon")(module, replace(SETTINGS, weight_decay=0.0))
        for _ in range(5):
            hidden = module(ids[:, :-1].flatten(), layout)
            loss = torch.nn.functional.cross_entropy(module.output(hidden), ids[:, 1:].flatten())
            losses.append(loss.item())
            module.zero_grad()
            loss.backward()
            optimizer.step(1.0)
    assert losses[4] < losses[0] - 0.2
    assert losses[:5] == pytest.approx(losses[5:], rel=1e-4)
    for name, part in named_parts(theirs):
        expected = part * factor(name)
        assert (parts[name] - expected).norm() < 1e-3 * expected.norm(), name


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_scaled_gradients_are_the_gradient_scale(name: str) -> None:
    ours, theirs = network(), network()
    one, other = (OPTIMIZERS.get(name)(module, SETTINGS) for module in (ours, theirs))
    for step in range(2):
        learn(ours, step)
        learn(theirs, step)
        for p in theirs.parameters():
            p.grad *= 0.25
        one.step(1.0, gradient_scale=0.25)
        other.step(1.0)
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)
