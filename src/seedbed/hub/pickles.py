"""Weights in PyTorch's own files, which are pickles: read without running what they may carry."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seedbed.base.errors import BundleError
from seedbed.hub.tensor_files import DAMAGED, TensorHeader, require_readable


class PickleFile:
    """A state dict that `torch.save` wrote, read with `weights_only` and mapped where the format allows it.

    The format of torch 1.5 and earlier cannot be mapped: there the whole file is in memory.
    Errors: BundleError where it asks for anything but tensors by name.
    """

    def __init__(self, path: Path) -> None:
        require_readable(path)
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
