"""Adafactor equals that of transformers, each of q, k, v a matrix of its own."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from seedbed.models.network import build, family, initialize
from seedbed.nn.linear import named_parts
from seedbed.training.optimizer import OPTIMIZERS
from seedbed.training.settings import TrainingSettings

SETTINGS = TrainingSettings(optimizer="adafactor", learning_rate=0.05, weight_decay=0.1)


def network() -> nn.Module:
    module = build(replace(family("t5").sized(32, 1), num_heads=2, vocab_size=40).with_attention(head_dim=8))
    initialize(module, torch.Generator().manual_seed(0))
    return module


def learn(module: nn.Module, step: int) -> None:
    """Fill the gradients, other ones each step, some of them large."""
    generator = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * (10 if step == 3 else 0.1)


@pytest.mark.parametrize("gradient_scale", [1.0, 0.25])
def test_five_steps_equal_those_of_transformers(gradient_scale: float) -> None:
    from transformers.optimization import Adafactor

    ours = network()
    optimizer = OPTIMIZERS.get("adafactor")(ours, SETTINGS)
    theirs = {name: nn.Parameter(part.clone()) for name, part in named_parts(ours)}
    groups = [
        {"params": [p for p in theirs.values() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    reference = Adafactor(groups, lr=0.05, relative_step=False, scale_parameter=True)
    for step in range(5):
        factor = 1 / (step + 1)
        learn(ours, step)
        gradients = network()
        for one, other in zip(gradients.parameters(), ours.parameters(), strict=True):
            one.data = other.grad * gradient_scale
        for name, gradient in named_parts(gradients):
            theirs[name].grad = gradient.clone()
        for group in reference.param_groups:
            group["lr"] = 0.05 * factor
        optimizer.step(factor, gradient_scale=gradient_scale)
        reference.step()
    for name, part in named_parts(ours):
        torch.testing.assert_close(part, theirs[name].detach(), rtol=1e-5, atol=1e-6, msg=name)


def test_a_step_is_in_proportion_to_what_it_changes() -> None:
    module = network()
    before = {name: part.clone() for name, part in named_parts(module)}
    learn(module, 0)
    OPTIMIZERS.get("adafactor")(module, replace(SETTINGS, weight_decay=0.0)).step(1.0)
    for name, part in named_parts(module):
        size = before[name].square().mean().sqrt()
        assert (part - before[name]).square().mean().sqrt() / size == pytest.approx(0.05, rel=0.05), name


def test_it_remembers_a_number_for_each_row_and_column() -> None:
    module = network()
    optimizer = OPTIMIZERS.get("adafactor")(module, SETTINGS)
    num_remembered = sum(tensor.numel() for tensor in optimizer.state().values())
    assert num_remembered < 0.2 * sum(p.numel() for p in module.parameters())
    learn(module, 0)
    optimizer.step(1.0)
    assert all(tensor.abs().sum() > 0 for tensor in optimizer.state().values())
