"""A file of tensors: its headers, and each tensor by name; safetensors, or the pickles of `torch.save`."""

from __future__ import annotations

import re
import warnings
import zipfile
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
        _require_readable(path)
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


class PickleFile:
    """A state dict that `torch.save` wrote, read with `weights_only` and mapped where the format allows it.

    The format of torch 1.5 and earlier cannot be mapped: there the whole file is in memory.
    Errors: BundleError where it asks for anything but tensors by name.
    """

    def __init__(self, path: Path) -> None:
        _require_readable(path)
        self.path = path
        self._tensors = _tensors(path)
        self.headers = {
            name: TensorHeader(tuple(tensor.shape), tensor.dtype) for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        """The tensor of a name, a view into the mapped file."""
        return self._tensors[name]

    def close(self) -> None:
        """Do nothing: what is mapped goes with the tensors."""


def _tensors(path: Path) -> dict[str, Tensor]:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _require_stored(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols and storages, which no user chose
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # bytes at random raise whatever the reader's code can raise
        text = "".join(c for c in " ".join(str(error).split()) if c.isprintable())
        if asked := re.search(r"GLOBAL ([\w.]+)", text):
            raise BundleError(
                f"{path} asks for {asked[1][:60]}, which is no tensor and may be an attack; it is not run: "
                "take the model in safetensors"
            ) from None
        cause = re.search(r"WeightsUnpickler error: (.{1,80}?)(?: Check the doc|$)", text)
        text = cause[1] if cause else f"{type(error).__name__} {text[:80]}"
        raise BundleError(f"{path} cannot be read: {text}; {DAMAGED}") from None
    if not isinstance(values, dict):
        raise BundleError(
            f"{path} holds a {type(values).__name__}; allowed: tensors by name, as a model's state_dict() is"
        )
    for name, value in values.items():
        _require_tensor(path, name, value)
    return dict(values)


def _require_tensor(path: Path, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not name.isprintable():
        raise BundleError(f"{path} holds the name {str(name)[:40]!r}, which is none; {DAMAGED}")
    if type(value) not in (Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.is_quantized:
        kind = "packed tensor" if isinstance(value, Tensor) else type(value).__name__
        raise BundleError(
            f"{path} holds a {kind} as {name[:80]!r}; allowed: plain tensors by name, as a model's "
            "state_dict() is"
        )


def _require_stored(path: Path) -> None:
    """Refuse a packed archive, which may swell to a thousand times its size; torch writes none."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BundleError(f"{path} cannot be read: {error}; {DAMAGED}") from None
    if packed:
        raise BundleError(
            f"{path} is a compressed archive, which torch.save never writes; take the model in safetensors"
        )


def _require_readable(path: Path) -> None:
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
