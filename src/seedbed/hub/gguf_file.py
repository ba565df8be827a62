"""The metadata and tensors of a GGUF file, read with every count and length bounded.

The format is llama.cpp's (github.com/ggml-org/ggml, docs/gguf.md). The header is parsed here because
the `gguf` package's reader hangs on a hostile file of 110 bytes; its routines expand the blocks.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from seedbed.base.errors import BundleError

T = TypeVar("T")
MAGIC = b"GGUF"
VERSIONS = (2, 3)
# Far beyond any published file, and still read within a second from a hostile one.
MAX_ENTRIES, MAX_TENSORS, MAX_STRINGS = 1 << 16, 1 << 13, 1 << 21
MAX_NAME_BYTES, MAX_DIMENSIONS, MAX_ALIGNMENT = 128, 4, 1 << 20
# Values that are expanded at once: they stay in the processor's cache.
CHUNK_VALUES = 1 << 17
STRING, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
DAMAGED = "the file is truncated or damaged: download or write it again"


class Strings(NamedTuple):
    """A list of strings that has not been read yet, at byte `start` of the file."""

    length: int
    start: int


KINDS: dict[type, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
KINDS |= {Strings: "a list of texts", np.ndarray: "a list of numbers"}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file, at byte `start`; `shape` is outermost first, as in torch."""

    shape: tuple[int, ...]
    quantization: GGMLQuantizationType
    start: int
    num_bytes: int

    @property
    def num_values(self) -> int:
        """The number of its values."""
        return prod(self.shape)


class _Header:
    """A cursor over the mapped file that never goes beyond its end."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.position, self.strings_left = content, 0, MAX_STRINGS

    def take(self, num_bytes: int) -> int:
        """Move on by `num_bytes` -> where they begin."""
        start = self.position
        if num_bytes > len(self.content) - start:
            raise BundleError(f"its header refers to {num_bytes} bytes at byte {start}, beyond the end")
        self.position += num_bytes
        return start

    def number(self, code: str) -> Any:
        """The next number of a `struct` code."""
        return struct.unpack_from("<" + code, self.content, self.take(struct.calcsize("<" + code)))[0]

    def count(self, what: str, maximum: int) -> int:
        """The next count or length, at most `maximum`."""
        number = int(self.number("Q"))
        if number > maximum:
            raise BundleError(f"its header has {number} {what}, more than the allowed {maximum}")
        return number

    def text(self, maximum: int | None = None) -> str:
        """The next string."""
        length = self.count("bytes of one text", len(self.content) if maximum is None else maximum)
        start = self.take(length)
        try:
            return self.content[start : start + length].decode()
        except UnicodeDecodeError:
            raise BundleError(f"the text at byte {start} of its header is not UTF-8") from None

    def name(self) -> str:
        """The next name of a key or a tensor."""
        name = self.text(MAX_NAME_BYTES)
        if not name.isprintable():
            raise BundleError(f"its header has the name {name[:40]!r}, which cannot be printed")
        return name

    def value(self) -> Any:
        """The next value: a number, a string, an array of numbers, or the place of a list of strings."""
        kind = self.number("I")
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.number(self._code(kind))
        kind = self.number("I")
        count = self.count("elements of a list", len(self.content))
        if kind != STRING:
            dtype = np.dtype(self._code(kind)).newbyteorder("<")
            start = self.take(count * dtype.itemsize)
            return np.frombuffer(self.content[start : self.position], dtype)
        start = self.position
        self.strings_left -= count
        if self.strings_left < 0:
            raise BundleError(f"its header has lists of more than {MAX_STRINGS} texts")
        for _ in range(count):
            self.take(self.number("Q"))
        return Strings(count, start)

    def counts(self) -> tuple[int, int]:
        """The beginning of the file: the numbers of its tensors and of its metadata entries."""
        start = self.take(4)
        if self.content[start : start + 4] != MAGIC:
            raise BundleError("it does not begin like a GGUF file")
        version = self.number("I")
        if version not in VERSIONS:
            big = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
            kind = "is written for big-endian machines" if big else f"has the version {version} of the format"
            raise BundleError(f"it {kind}; allowed: the versions 2 and 3, little-endian")
        return self.count("tensors", MAX_TENSORS), self.count("metadata entries", MAX_ENTRIES)

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """The next tensor's name, shape, quantization and offset."""
        name = self.name()
        num_dimensions = self.number("I")
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            raise BundleError(f"the tensor {name!r} has {num_dimensions} dimensions; allowed: 1 to 4")
        shape = tuple(self.number("Q") for _ in range(num_dimensions))[::-1]
        return name, shape, self.number("I"), self.number("Q")

    def _code(self, kind: int) -> str:
        if kind not in NUMBERS:
            raise BundleError(f"its header has a value of the unknown type {kind} at byte {self.position}")
        return NUMBERS[kind]


class GgufFile:
    """An open GGUF file: `metadata` by key, `tensors` by name. Errors do not name the file."""

    def __init__(self, opened: FileIO, header: _Header) -> None:
        self._opened, self._content = opened, header.content
        self.metadata: dict[str, Any] = {}
        num_tensors, num_entries = header.counts()
        for _ in range(num_entries):
            key = header.name()
            if key in self.metadata:
                raise BundleError(f"its header names {key!r} twice")
            self.metadata[key] = header.value()
        described = [header.tensor() for _ in range(num_tensors)]
        alignment = self.get("general.alignment", int, 32)
        if not 8 <= alignment <= MAX_ALIGNMENT or alignment % 8:
            raise BundleError(f"general.alignment={alignment} is not allowed; allowed: multiples of 8")
        self.data_start = -(-header.position // alignment) * alignment
        self.tensors: dict[str, StoredTensor] = {}
        expected = 0
        for name, shape, kind, offset in described:
            if name in self.tensors:
                raise BundleError(f"its header names the tensor {name!r} twice")
            self.tensors[name] = tensor = self._place(name, shape, kind, offset)
            if offset != expected:  # as llama.cpp requires; none overlaps another
                raise BundleError(f"the tensor {name!r} is at byte {offset} of the data, not {expected}")
            expected = -(-(offset + tensor.num_bytes) // alignment) * alignment

    def _place(self, name: str, shape: tuple[int, ...], kind: int, offset: int) -> StoredTensor:
        quantization = _quantization(name, kind)
        block_values, block_bytes = GGML_QUANT_SIZES[quantization]
        if not prod(shape) or shape[-1] % block_values:
            raise BundleError(
                f"the tensor {name!r} of shape {shape} cannot be cut into blocks of {block_values}"
            )
        num_bytes, start = prod(shape) // block_values * block_bytes, self.data_start + offset
        if (end := start + num_bytes) > len(self._content):
            raise BundleError(f"the tensor {name!r} would end at byte {end} of {len(self._content)}")
        return StoredTensor(shape, quantization, start, num_bytes)

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """A value of the metadata, else `default`; BundleError for neither, or for another kind of value."""
        value = self.metadata.get(key, default)
        if value is None:
            raise BundleError(f"its metadata lacks {key}")
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            shown = "a list" if isinstance(value, (Strings, np.ndarray)) else repr(value)[:60]
            raise BundleError(f"its metadata has {shown} as {key}; allowed: {KINDS[kind]}")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings of the metadata."""
        where = self.get(key, Strings)
        header = _Header(self._content)
        header.position = where.start
        return [header.text() for _ in range(where.length)]

    def numbers(self, key: str, *, whole: bool = False) -> list[Any]:
        """A list of finite numbers of the metadata, `whole` ones or any."""
        values = self.get(key, np.ndarray)
        if whole and values.dtype.kind not in "iu":
            raise BundleError(f"its metadata has numbers with fractions as {key}; allowed: whole numbers")
        if not np.isfinite(values).all():
            raise BundleError(f"its metadata has numbers that are not finite as {key}")
        found: list[Any] = values.tolist()
        return found

    def read(self, name: str) -> Tensor:
        """A tensor by name, expanded to float32; a matrix is (d_out, d_in)."""
        stored = self.tensors[name]
        block_values, block_bytes = GGML_QUANT_SIZES[stored.quantization]
        step = CHUNK_VALUES // block_values
        values = torch.empty(stored.num_values, dtype=torch.float32)
        filled = values.numpy()
        for first in range(0, stored.num_bytes // block_bytes, step):
            last = min(first + step, stored.num_bytes // block_bytes)
            # Not mapped: mapped bytes would stay in this process's memory.
            raw = np.empty((last - first) * block_bytes, np.uint8)
            start = self._opened.seek(stored.start + first * block_bytes)
            if self._opened.readinto(raw.data) != len(raw):
                raise BundleError(f"it ends before byte {start + len(raw)}")
            with np.errstate(all="ignore"):  # a damaged scale overflows: `PublishedTensors` counts it
                chunk = dequantize(raw[None], stored.quantization)[0]
            filled[first * block_values : last * block_values] = chunk
        return values.view(stored.shape)


def _quantization(name: str, kind: int) -> GGMLQuantizationType:
    """The quantization of a tensor, if the `gguf` package can expand it."""
    try:
        quantization = GGMLQuantizationType(kind)
        dequantize(np.zeros((1, GGML_QUANT_SIZES[quantization][1]), np.uint8), quantization)
    except (ValueError, KeyError, NotImplementedError):
        known = [q.name for q in GGMLQuantizationType if q.value == kind]
        raise BundleError(
            f"the tensor {name!r} has the quantization {known[0] if known else kind}, which is unknown here; "
            "take a file in F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 or one of Q2_K to Q6_K"
        ) from None
    return quantization


@contextmanager
def open_gguf_file(path: Path) -> Iterator[GgufFile]:
    """Read the header of a GGUF file and keep it open. Errors: BundleError naming the file."""
    try:
        with FileIO(path) as opened:
            if not path.stat().st_size:
                raise BundleError("it is empty")
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield GgufFile(opened, _Header(content))
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    except BundleError as error:
        advice = "" if ";" in str(error) else f"; {DAMAGED}"
        raise BundleError(f"{path} cannot be used: {error}{advice}") from None
