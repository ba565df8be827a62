"""AdamW equals torch's own, fused and not, with decay on matrices alone and clipping folded in."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from seedbed.training.optimizer import OPTIMIZERS, Optimizer
from seedbed.training.optimizers.adamw import AdamW
from seedbed.training.settings import TrainingSettings

SETTINGS = TrainingSettings(learning_rate=0.02, weight_decay=0.3, beta1=0.9, beta2=0.95)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 11))


def learn(module: nn.Module, step: int) -> None:
    """Fill the gradients, other ones each step."""
    generator = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize(("fused", "tolerance"), [(True, 0.0), (False, 1e-6)])
def test_ten_steps_equal_torchs(fused: bool, tolerance: float) -> None:
    ours, theirs = network(), network()
    optimizer = OPTIMIZERS.get("adamw")(ours, SETTINGS)
    matrices = [p for p in theirs.parameters() if p.ndim >= 2]
    vectors = [p for p in theirs.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=fused)
    for step in range(10):
        factor = 1 / (step + 1)
        learn(ours, step)
        learn(theirs, step)
        optimizer.step(factor)
        for group in reference.param_groups:
            group["lr"] = 0.02 * factor
        reference.step()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def test_the_gradient_scale_is_clipping() -> None:
    ours, theirs = network(), network()
    rule = OPTIMIZERS.get("adamw")(ours, SETTINGS)
    clipped = OPTIMIZERS.get("adamw")(theirs, SETTINGS)
    for step in range(3):
        learn(ours, step)
        learn(theirs, step)
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        rule.step(1.0, gradient_scale=min(1.0, 1.0 / (norm.item() + 1e-6)))
        clipped.step(1.0)
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)


def test_a_parameter_without_a_gradient_stays() -> None:
    parameters = {"used": nn.Parameter(torch.ones(3)), "idle": nn.Parameter(torch.ones(3))}
    rule = AdamW(parameters, learning_rate=0.1, beta1=0.9, beta2=0.99, weight_decay=0.1)
    optimizer = Optimizer({"all": rule})
    optimizer.step(1.0)
    parameters["used"].grad = torch.ones(3)
    optimizer.step(1.0)
    assert parameters["idle"].tolist() == [1.0, 1.0, 1.0] != parameters["used"].tolist()


def test_what_is_frozen_is_left_out() -> None:
    module = network()
    module[0].weight.requires_grad_(False)
    assert not [name for name in OPTIMIZERS.get("adamw")(module, SETTINGS).state() if "/0." in name]


def test_no_compiler_is_loaded_for_it() -> None:
    code = (
        "import sys, torch\n"
        "from seedbed.training.optimizer import OPTIMIZERS\n"
        "from seedbed.training.settings import TrainingSettings\n"
        "module = torch.nn.Linear(3, 3)\n"
        "module(torch.ones(3)).sum().backward()\n"
        "OPTIMIZERS.get('adamw')(module, TrainingSettings()).step(1.0)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
