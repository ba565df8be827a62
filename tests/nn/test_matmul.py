"""The matmul of a few tokens: whichever kernel computes it, and whatever the processor, it is the matmul."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seedbed.base.hardware import cpu_info
from seedbed.nn import matmul as matmul_module
from seedbed.nn.matmul import (
    LARGE_FOR_ONE,
    LARGE_NUMBERS,
    few_tokens_call,
    linear_call,
    matmul,
    may_use_onednn,
    one_token_call,
    onednn_tokens,
)

ROWS, WIDTH = 1024, LARGE_FOR_ONE // 1024


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of tokens that oneDNN's kernel was called with."""
    called: list[int] = []
    kernel = matmul_module._onednn

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        called.append(x.numel() // x.size(-1))
        return kernel(x, weight, bias)

    monkeypatch.setattr(matmul_module, "_onednn", counted)
    return called


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("width", [64, LARGE_NUMBERS // ROWS, WIDTH])
@pytest.mark.parametrize("few", [(1, 64), (4, 32), (1, 0)])
@torch.no_grad()
def test_every_kernel_gives_the_matmul(
    few: tuple[int, int], width: int, biased: bool, onednn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul_module, "ONEDNN_TOKENS", few)
    weight, bias = numbers(ROWS, width), numbers(ROWS) if biased else None
    for num_tokens in (1, 3, 4, 32, 33, 64, 65):
        x = numbers(num_tokens, 2 * width, seed=num_tokens)[:, ::2]  # not contiguous
        exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
        takes = few[0] <= num_tokens <= few[1]
        assert may_use_onednn(num_tokens, x) == takes
        for call in (partial(matmul, weight=weight, bias=bias), linear_call(weight, bias)):
            torch.testing.assert_close(call(x).double(), exact, rtol=1e-4, atol=1e-4)
        large = width >= (WIDTH if num_tokens == 1 else LARGE_NUMBERS // ROWS)
        assert onednn == [num_tokens] * (large and takes)
        onednn.clear()
        torch.testing.assert_close(few_tokens_call(weight, bias)(x).double(), exact, rtol=1e-4, atol=1e-4)
        assert onednn == [num_tokens] * (width > 64)
        onednn.clear()
    found = one_token_call(weight, bias)(x[0])
    torch.testing.assert_close(found.double(), exact[0], rtol=1e-4, atol=1e-4)
    assert onednn == [1] * (width == WIDTH and few == (1, 64))


def test_the_choice_is_that_of_the_processor() -> None:
    """A command gives the same tokens in each process, so nothing is timed."""
    assert onednn_tokens("AuthenticAMD", "AVX512") == (1, 64)
    assert onednn_tokens("GenuineIntel", "AVX512") == (4, 32)
    for vendor in ("AuthenticAMD", "GenuineIntel", ""):
        for capability in ("AVX2", "DEFAULT"):
            low, high = onednn_tokens(vendor, capability)
            assert high < low
    own = onednn_tokens(cpu_info("vendor_id"), torch.backends.cpu.get_cpu_capability())
    assert own == matmul_module.ONEDNN_TOKENS or not matmul_module.HAS_ONEDNN


def test_gradients_flow_whatever_the_number_of_tokens() -> None:
    for num_tokens in (1, 8):
        weight = numbers(ROWS, WIDTH).requires_grad_()
        x: Any = numbers(num_tokens, WIDTH)
        assert not may_use_onednn(num_tokens, x)
        matmul(x, weight).sum().backward()
        torch.testing.assert_close(weight.grad, x.sum(0).expand_as(weight))
