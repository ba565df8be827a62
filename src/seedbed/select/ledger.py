"""An account of tensor memory: which storages there are, what they are for, and when they were the most."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What oneDNN's LSTM keeps for its backward pass: gates, cells, inputs; float32 numbers for each output
# number, in float32 and in bfloat16 (oneDNN 3.12, d_model 64 to 1024, within 3%, 2026-11-24).
LSTM_WORKSPACE_NUMBERS = {False: 15.5, True: 11.0}


class StorageLedger(TorchDispatchMode):
    """Keeps account of every storage that a tensor of the enclosed code has, from its making to its end.

    A storage is booked on the `part` of its time; `at_peak` is the account when it was highest. What an
    operator takes and gives back inside, and what is made outside, is not seen.
    """

    def __init__(self, part: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = part
        self.live: dict[int, tuple[str, int]] = {}  # serial number of a storage -> part, bytes
        self.at_peak: dict[int, tuple[str, int]] = {}
        self.num_bytes = self.peak_bytes = self._serial = 0
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}  # its address -> itself, its number

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1  # a fake tensor holds no number; none that is asked for decides a size
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.mkldnn_rnn_layer.default:
            result = _with_workspace(*result, in_half=args[1].dtype == torch.bfloat16)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._book(tensor)
        if self.num_bytes > self.peak_bytes:
            self.peak_bytes, self.at_peak = self.num_bytes, dict(self.live)
        return result

    def begin_peak(self) -> None:
        """Look for the peak from here on."""
        self.peak_bytes, self.at_peak = self.num_bytes, dict(self.live)

    def move(self, tensors: Iterable[Tensor], part: str) -> None:
        """Book the storages of `tensors` on another part, at the peak too."""
        for tensor in tensors:
            number = self._known[tensor.untyped_storage()._cdata][1]
            for account in (self.live, self.at_peak):
                if number in account:
                    account[number] = (part, account[number][1])

    def _book(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._known:
            return
        self._serial += 1
        number, size = self._serial, storage.nbytes()

        def gone(_: Any) -> None:
            self.num_bytes -= self.live.pop(number)[1]
            del self._known[address]

        self._known[address] = (weakref.ref(storage, gone), number)
        self.live[number] = (self.part, size)
        self.num_bytes += size

    @contextmanager
    def booking(self, part: str) -> Iterator[None]:
        """Book what is made in here on `part`."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def parts_at_peak(self) -> dict[str, int]:
        """Bytes by part when they were the most."""
        sums: Counter[str] = Counter()
        for part, size in self.at_peak.values():
            sums[part] += size
        return dict(sums)


def _with_workspace(
    y: Tensor, hidden: Tensor, cell: Tensor, workspace: Tensor, *, in_half: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The results of oneDNN's LSTM, whose workspace is empty on fake tensors, with one of the real size."""
    if not workspace.numel():
        num_bytes = int(4 * LSTM_WORKSPACE_NUMBERS[in_half] * y.numel())
        workspace = y.new_empty(num_bytes, dtype=torch.uint8)
    return y, hidden, cell, workspace
