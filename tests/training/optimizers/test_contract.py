"""What every optimizer promises, over every file of the package."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from seedbed.models.network import build, family, initialize
from seedbed.nn.layout import Layout
from seedbed.select.ledger import StorageLedger
from seedbed.training.optimizer import OPTIMIZERS, Optimizer
from seedbed.training.settings import TrainingSettings

NAMES = OPTIMIZERS.names()
IDS = torch.arange(24) % 11
LAYOUT = Layout.of([12, 12], device="cpu")


def network() -> nn.Module:
    module = build(replace(family("gpt2").sized(32, 2), vocab_size=16, dropout=0.0))
    initialize(module, torch.Generator().manual_seed(0))
    return module


def optimizer_of(name: str, module: nn.Module) -> Optimizer:
    return OPTIMIZERS.get(name)(module, TrainingSettings(optimizer=name, learning_rate=0.01))


def learn(module: nn.Module, scale: float = 1.0) -> float:
    """Set the gradients of a loss times `scale` -> the loss."""
    module.zero_grad()
    logits: Tensor = module.output(module(IDS, LAYOUT))  # type: ignore[operator]
    loss = nn.functional.cross_entropy(logits[:-1], IDS[1:])
    (loss * scale).backward()
    return float(loss.detach())


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.parameters(), other.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(name: str) -> None:
    module = network()
    optimizer, first = optimizer_of(name, module), learn(module)
    for _ in range(60):
        optimizer.step(1.0)
        last = learn(module)
    assert last < 0.9 * first


@pytest.mark.parametrize("name", NAMES)
def test_its_state_is_all_that_it_remembers(name: str) -> None:
    """A second optimizer with a copy of weights and state takes the same steps, bit for bit."""
    module, again = network(), network()
    optimizer, resumed = optimizer_of(name, module), optimizer_of(name, again)
    for _ in range(3):
        learn(module)
        optimizer.step(0.5)
    again.load_state_dict(module.state_dict())
    state = optimizer.state()
    assert state and resumed.state().keys() == state.keys()
    for key, tensor in resumed.state().items():
        tensor.copy_(state[key])
    for one, other in ((module, optimizer), (again, resumed)):
        learn(one)
        other.step(0.5)
    assert same(module, again) and not same(module, network())


@pytest.mark.parametrize("name", NAMES)
def test_clipping_is_a_scale_of_the_gradients(name: str) -> None:
    module, other = network(), network()
    optimizer, plain = optimizer_of(name, module), optimizer_of(name, other)
    for scale in (1.0, 2**-6, 0.5):  # a power of two rounds nothing; one constant would hide a missing scale
        learn(module)
        learn(other, scale)
        optimizer.step(1.0, gradient_scale=scale)
        plain.step(1.0)
    for one, two in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_gradient_stays(name: str) -> None:
    module = network()
    frozen = module.get_parameter("decoder.position.weight").requires_grad_(False)
    before = frozen.clone()
    optimizer = optimizer_of(name, module)
    learn(module)
    optimizer.step(1.0)
    assert torch.equal(frozen, before) and not any("position" in key for key in optimizer.state())


def test_every_optimizer_has_a_test_file() -> None:
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert NAMES and not set(NAMES) - files


@pytest.mark.parametrize("name", NAMES)
def test_an_update_needs_little_memory(name: str) -> None:
    """Its temporary tensors grow neither with an embedding nor with the number of layers."""
    config = replace(family("gpt2").sized(256, 48), vocab_size=200_000)
    module = build(config, "meta")
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = optimizer_of(name, module)
    with StorageLedger("update") as ledger:
        gradients = [parameter.grad for parameter in module.parameters()]
        ledger.record([*module.parameters(), *gradients, *optimizer.state().values()], "kept")
        ledger.begin_peak()
        optimizer.step(1.0, gradient_scale=0.5)
    # Seven stacks of 2^22 numbers; the embedding has 205 MB, the layers have 151.
    assert ledger.parts_at_peak().get("update", 0) < 120e6
