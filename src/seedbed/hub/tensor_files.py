"""A file of tensors: what its header says of them, and each of them by name; safetensors here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seedbed.base.errors import BundleError

DAMAGED = "it is cut or damaged: write or download it again"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


class TensorHeader(NamedTuple):
    """What a file says of a tensor; `dtype` is None where torch has none."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None


class SafetensorsFile:
    """A safetensors file, its header read."""

    def __init__(self, path: Path) -> None:
        require_readable(path)
        self.path = path
        self._opened: Any = None
        opened = self._open()
        with _library_errors(path):
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            self.headers = {
                name: TensorHeader(tuple(one.get_shape()), DTYPES.get(one.get_dtype()))
                for name, one in slices.items()
            }
        if strange := [name for name in self.headers if not name.isprintable()]:
            raise BundleError(
                f"{path} holds the name {strange[0][:40]!r}, which cannot be printed; {DAMAGED}"
            )

    def _open(self) -> Any:
        if self._opened is None:
            with _library_errors(self.path):
                self._opened = safe_open(self.path, framework="pt")
        return self._opened

    def read(self, name: str) -> Tensor:
        """The tensor of a name, a view into the mapped file."""
        opened = self._open()
        with _library_errors(self.path):
            tensor: Tensor = opened.get_tensor(name)
        return tensor

    def close(self) -> None:
        """Give back what was mapped."""
        self._opened = None


def require_readable(path: Path) -> None:
    """Refuse a file that may not be read; the libraries would call it one that is not there."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; see who may read it") from None


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}; {DAMAGED}") from None
