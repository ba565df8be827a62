"""The memory of tensors: the storages that exist, the part that each belongs to, and their peak."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seedbed.select.heap import UntouchedHeap


class MetaResults:
    """The results of operators on the meta device, each computed once for arguments of one kind.

    Torch computes many of them in Python, in 0.1 to 2 ms; the layers of a network repeat them.
    """

    def __init__(self) -> None:
        self._known: dict[Any, list[tuple[Any, ...] | None]] = {}

    def result(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of `func`: new tensors like those of its first call, or the argument that it changes."""
        if _changes_numbers(func) and args[0].is_meta:
            return args[0]
        if not _makes_new_tensors(func):
            return func(*args, **kwargs)
        key = (func, _kind(args), *((name, _kind(value)) for name, value in kwargs.items()))
        found = self._known.get(key)
        if found is None:
            result = func(*args, **kwargs)
            made = result if isinstance(result, tuple) else (result,)
            if all(each is None or (isinstance(each, Tensor) and each.is_meta) for each in made):
                self._known[key] = [
                    None if each is None else (each.shape, each.stride(), each.dtype) for each in made
                ]
            return result
        tensors = tuple(
            None if each is None else torch.empty_strided(each[0], each[1], dtype=each[2], device="meta")
            for each in found
        )
        return tensors if len(tensors) > 1 else tensors[0]


@cache
def _makes_new_tensors(func: Any) -> bool:
    """Whether the results of an operator are neither its arguments nor views of them, but tensors alone."""
    schema = func._schema
    own = all(each.alias_info is None for each in (*schema.arguments, *schema.returns))
    return own and all(str(each.type) in ("Tensor", "Optional[Tensor]") for each in schema.returns)


@cache
def _changes_numbers(func: Any) -> bool:
    """Whether an operator changes its first argument's numbers alone, and returns it."""
    schema, name = func._schema, func._schema.name
    if len(schema.returns) != 1 or not name.endswith("_") or torch.Tag.inplace_view in func.tags:
        return False
    first, returned = schema.arguments[0].alias_info, schema.returns[0].alias_info
    is_same = None not in (first, returned) and first.before_set == returned.before_set
    return is_same and bool(first.is_write) and name not in ("aten::resize_", "aten::set_")


def _kind(value: Any) -> Any:
    """What the result's shape can depend on; numbers by their type too, since 1 == 1.0 == True."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype, value.is_meta)
    if isinstance(value, list | tuple):
        return tuple(map(_kind, value))
    return (type(value), value)


class StorageLedger(TorchDispatchMode):
    """Records every storage that operators inside the context allocate, until it is freed.

    A storage belongs to the `part` that is current when it is allocated. Memory that an operator allocates
    and frees inside is not seen, nor are tensors from before the context, unless `record` adds them. A `heap`
    gets a block for each, until the context ends.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from loading its compiler for this mode: 812 modules, 0.8 s and 65 MiB (torch 2.13)."""
        return False

    def __init__(self, part: str, heap: UntouchedHeap | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part, self._heap = part, heap
        self._results = MetaResults()
        self._blocks: dict[int, int] = {}  # serial number of a storage -> address
        self.live: dict[int, tuple[str, int]] = {}  # serial number of a storage -> part, bytes
        self.at_peak: dict[int, tuple[str, int]] = {}
        self.num_bytes = self.peak_bytes = self._serial = 0
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}  # its address -> itself, its number

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = self._results.result(func, args, kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._record(tensor)
        if self.num_bytes > self.peak_bytes:
            self.peak_bytes, self.at_peak = self.num_bytes, dict(self.live)
        return result

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for number in [*self._blocks]:
            self._free(number)

    def begin_peak(self) -> None:
        """Restart the peak from here."""
        self.peak_bytes, self.at_peak = self.num_bytes, dict(self.live)

    def record(self, tensors: Iterable[Tensor], part: str) -> None:
        """Record tensors that exist already."""
        with self.recording(part):
            for tensor in tensors:
                self._record(tensor)

    def move(self, tensors: Iterable[Tensor], part: str) -> None:
        """Move the storages of `tensors` to another part, at the peak too."""
        for tensor in tensors:
            number = self._known[tensor.untyped_storage()._cdata][1]
            for storages in (self.live, self.at_peak):
                if number in storages:
                    storages[number] = (part, storages[number][1])

    def _record(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._known:
            return
        self._serial += 1
        number, size = self._serial, storage.nbytes()

        def freed(_: Any) -> None:
            self.num_bytes -= self.live.pop(number)[1]
            del self._known[address]
            self._free(number)

        self._known[address] = (weakref.ref(storage, freed), number)
        self.live[number] = (self.part, size)
        self.num_bytes += size
        if self._heap is not None:
            self._blocks[number] = self._heap.allocate(size)

    def _free(self, number: int) -> None:
        if self._heap is not None and (block := self._blocks.pop(number, 0)):
            self._heap.free(block)

    @contextmanager
    def recording(self, part: str) -> Iterator[None]:
        """Record what is allocated in the block under `part`."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def parts_at_peak(self) -> dict[str, int]:
        """Bytes by part at the peak."""
        sums: Counter[str] = Counter()
        for part, size in self.at_peak.values():
            sums[part] += size
        return dict(sums)
