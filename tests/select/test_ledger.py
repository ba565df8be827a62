"""The ledger computes a result once for arguments of one kind; each time it is a new tensor."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seedbed.select.ledger import StorageLedger

CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "matmul": lambda x: x @ x.mT,
    "broadcast": lambda x: x + x[:1],
    "another type": lambda x: x * True + x.to(torch.float64),
    "several results": lambda x: torch.native_layer_norm(x, [6], None, None, 1e-5)[1],
    "a view": lambda x: x.unsqueeze(0),
    "in place": lambda x: x.clone().sigmoid_().add_(1),
    "a new shape in place": lambda x: x.clone().unsqueeze_(0),
    "a transposed result": lambda x: x.mT.exp(),
    "a list": lambda x: torch.cat([x, x, x[:2]]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_results_are_those_of_torch_and_new(call: Callable[[Tensor], Tensor]) -> None:
    meta, real = torch.empty(4, 6, device="meta"), torch.ones(4, 6)
    expected, as_expected = call(real), call(real.mT.contiguous().mT)
    with StorageLedger("any"):
        _, again = call(meta), call(meta)
        other = call(torch.empty(6, 4, device="meta").mT)
    for found, wanted in ((again, expected), (other, as_expected)):
        assert (found.shape, found.stride(), found.dtype) == (wanted.shape, wanted.stride(), wanted.dtype)


def test_a_repeated_result_is_another_storage() -> None:
    x = torch.empty(1000, device="meta")
    with StorageLedger("any") as ledger:
        kept = [x + 1 for _ in range(3)]
        assert (len(kept), ledger.num_bytes) == (3, 12_000)
        del kept[1:]
        assert ledger.num_bytes == 4000
