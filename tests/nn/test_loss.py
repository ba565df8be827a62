"""The summed cross-entropy equals torch's, value and gradient, and costs no second copy of the logits."""

import pytest
import torch
from torch.nn import functional as F

import seedbed.nn.loss as loss_module
from seedbed.nn.loss import cross_entropy_sum


def compare(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    """Relative error of the loss, greatest error of the gradient, against torch's in float64."""
    exact = logits.double().clone().requires_grad_()
    expected = F.cross_entropy(exact, targets, reduction="sum")
    (expected * 0.3).backward()
    ours = logits.clone().requires_grad_()
    loss = cross_entropy_sum(ours * 1, targets)
    (loss * 0.3).backward()
    assert exact.grad is not None and ours.grad is not None
    return abs(loss.item() / expected.item() - 1), (ours.grad.double() - exact.grad).abs().max().item()


@pytest.mark.parametrize(
    ("dtype", "loss_error", "gradient_error"),
    [
        (torch.float64, 1e-14, 1e-15),
        (torch.float32, 1e-6, 1e-6),
        (torch.bfloat16, 1e-6, 2e-3),  # the gradient itself is kept in bfloat16
    ],
)
def test_equal_to_torch(dtype: torch.dtype, loss_error: float, gradient_error: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(37, 101, generator=generator, dtype=torch.float64) * 5).to(dtype)
    targets = torch.randint(101, (37,), generator=generator)
    errors = compare(logits, targets)
    assert errors[0] < loss_error and errors[1] < gradient_error
    assert cross_entropy_sum(logits.clone(), targets).dtype == (
        dtype if dtype.itemsize > 4 else torch.float32
    )


def test_an_almost_impossible_target_has_a_finite_loss() -> None:
    logits = torch.tensor([[0.0, 500.0, -500.0], [300.0, 0.0, 0.0]])
    loss = cross_entropy_sum(logits.clone(), torch.tensor([2, 0]))
    assert loss.item() == pytest.approx(1000.0)
    assert max(compare(logits, torch.tensor([2, 0]))) < 1e-6


def test_half_precision_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(50, 31, generator=torch.Generator().manual_seed(1)).bfloat16()
    targets = torch.arange(50) % 31
    results = []
    for numbers in (2**24, 31 * 7):
        monkeypatch.setattr(loss_module, "CPU_NUMBERS", numbers)
        leaf = logits.clone().requires_grad_()
        loss = cross_entropy_sum(leaf * 1, targets)
        loss.backward()
        results.append((loss.item(), leaf.grad))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert torch.equal(results[0][1], results[1][1])


def test_a_second_backward_pass_is_refused() -> None:
    loss = cross_entropy_sum(torch.zeros(2, 3, requires_grad=True) * 1, torch.tensor([0, 1]))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_logits_that_another_gradient_needs_are_refused() -> None:
    logits = torch.zeros(2, 3, requires_grad=True).exp()  # exp keeps its result for the way back
    loss = cross_entropy_sum(logits, torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_logits_are_the_only_memory() -> None:
    logits = torch.randn(64, 4096) * 1
    address = logits.data_ptr()
    leaf = logits.requires_grad_()
    loss = cross_entropy_sum(leaf, torch.arange(64))
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert gradient.data_ptr() == address
