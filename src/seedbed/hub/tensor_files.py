"""Files of tensors, read one tensor at a time: safetensors, and the pickles of `torch.save`."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seedbed.base.errors import BundleError
from seedbed.base.json_file import require_own

DAMAGED = "it is truncated or damaged: write or download it again"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


class TensorHeader(NamedTuple):
    """The description of a tensor in a file; `dtype` is None if torch does not have it."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None


class SafetensorsFile:
    """A safetensors file whose header has been read; `headers` are its tensors' by name.

    `metadata` are the texts beside them.
    """

    def __init__(self, path: Path) -> None:
        _require_readable(path)
        self.path = path
        with _library_errors(path):
            opened: Any = safe_open(path, framework="pt")
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
            self.headers = {
                name: TensorHeader(tuple(one.get_shape()), DTYPES.get(one.get_dtype()))
                for name, one in slices.items()
            }
            self.metadata: dict[str, str] = opened.metadata() or {}
        self._opened = opened
        if unprintable := [name for name in self.headers if not name.isprintable()]:
            raise BundleError(
                f"{path} has the name {unprintable[0][:40]!r}, which cannot be printed; {DAMAGED}"
            )

    def read(self, name: str) -> Tensor:
        """A tensor by name, a view into the mapped file."""
        with _library_errors(self.path):
            if self._opened is None:
                self._opened = safe_open(self.path, framework="pt")
            tensor: Tensor = self._opened.get_tensor(name)
        return tensor

    def close(self) -> None:
        """Unmap the file; the next `read` opens it again."""
        self._opened = None


def save_tensors(tensors: Mapping[str, Tensor], file: Path, *, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, the tensors from any device. Errors: OSError."""
    try:
        on_cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        save_file(on_cpu, file, metadata={"format": "pt", **metadata})
        _sort_metadata(file)
    except SafetensorError as error:  # an OSError as text
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, str(error)) from error


def _sort_metadata(file: Path) -> None:
    """Write the metadata in the order of their names: the library's order differs from call to call.

    A fingerprint of the file would, too.
    """
    with file.open("r+b") as opened:
        num_bytes = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(num_bytes))
        header = {"__metadata__": dict(sorted(header.pop("__metadata__").items()))} | header
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= num_bytes  # the same letters
        opened.seek(8)
        opened.write(text.ljust(num_bytes))


class PickleFile:
    """A state dict of `torch.save`, read with `weights_only` without running the code that it may contain.

    The file is mapped; one of torch 1.5 or earlier cannot be and is read into memory.
    Errors: BundleError if it contains anything but tensors by name.
    """

    def __init__(self, path: Path) -> None:
        _require_readable(path)
        self.path = path
        self._tensors = _unpickled_tensors(path)
        self.headers = {
            name: TensorHeader(tuple(tensor.shape), tensor.dtype) for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        """A tensor by name, a view into the mapped file."""
        return self._tensors[name]

    def close(self) -> None:
        """Do nothing: the mapping ends with the tensors."""


def _unpickled_tensors(path: Path) -> dict[str, Tensor]:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _require_stored(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols and storages, which the user cannot change
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # random bytes can raise any error of the unpickler
        text = "".join(c for c in " ".join(str(error).split()) if c.isprintable())
        if call := re.search(r"GLOBAL ([\w.]+)", text):
            raise BundleError(
                f"{path} calls {call[1][:60]}, which is not a tensor and may be an attack; it was not "
                "run: take the model in safetensors"
            ) from None
        cause = re.search(r"WeightsUnpickler error: (.{1,80}?)(?: Check the doc|$)", text)
        text = cause[1] if cause else f"{type(error).__name__} {text[:80]}"
        raise BundleError(f"{path} cannot be read: {text}; {DAMAGED}") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise BundleError(f"{path} contains a {kind}; allowed: tensors by name, like a model's state_dict()")
    for name, value in values.items():
        _require_tensor(path, name, value)
    return dict(values)


def _require_tensor(path: Path, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not name.isprintable():
        raise BundleError(f"{path} has the name {str(name)[:40]!r}, which is not allowed; {DAMAGED}")
    if type(value) not in (Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.is_quantized:
        kind = "packed tensor" if isinstance(value, Tensor) else type(value).__name__
        raise BundleError(
            f"{path} contains a {kind} as {name[:80]!r}; allowed: plain tensors by name, like a model's "
            "state_dict()"
        )


def _require_stored(path: Path) -> None:
    """Refuse a compressed archive, which may expand a thousandfold; torch never compresses."""
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = [info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BundleError(f"{path} cannot be read: {error}; {DAMAGED}") from None
    if compressed:
        raise BundleError(
            f"{path} is a compressed archive, which torch.save never writes; take the model in safetensors"
        )


def _require_readable(path: Path) -> None:
    """Refuse a file that cannot be read; the libraries would say that it does not exist."""
    require_own(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; check its permissions") from None


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}; {DAMAGED}") from None
