"""The files of a bundle's weights: one, or shards with an index; tensors are read one at a time.

`model.safetensors`, or `model.safetensors.index.json` with its shards; only where a user allows pickles and
there are no safetensors, `pytorch_model.bin` or its index and shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seedbed.base.errors import BundleError
from seedbed.hub.json_file import read_object

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# What is read lies in a mapping that counts as this process's memory until the file is closed.
MAX_MAPPED_BYTES = 1 << 26
DAMAGED = "it is cut or damaged: write or download it again"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Held(NamedTuple):
    """What a file says of a tensor; `dtype` is None where torch has none."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None


class WeightFile(Protocol):
    """A file of tensors: what it holds by name, and each of them."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def held(self) -> Mapping[str, Held]:
        """Its tensors by name."""

    def read(self, name: str) -> Tensor:
        """The tensor of a name, still in the file where it can be."""

    def close(self) -> None:
        """Give back what was mapped; the next `read` opens the file again."""


class SafetensorsFile:
    """A safetensors file, its header read."""

    def __init__(self, path: Path) -> None:
        require_readable(path)
        self.path = path
        self._opened: Any = None
        opened = self._open()
        with _library_errors(path):
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            self.held: Mapping[str, Held] = {
                name: Held(tuple(one.get_shape()), DTYPES.get(one.get_dtype()))
                for name, one in slices.items()
            }

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


class Weights:
    """All tensors of a bundle: `held` says what there is, in `files` of `num_bytes` together.

    `path` is the file that they begin with, the only one or the index.
    """

    def __init__(self, path: Path, files: Sequence[WeightFile]) -> None:
        self.path = path
        self._files = {name: file for file in files for name in file.held}
        self.held = {name: held for file in files for name, held in file.held.items()}
        self.files = [file.path for file in files]
        self.num_bytes = sum(file.stat().st_size for file in self.files)
        self._mapped_bytes = 0

    def read(self, name: str) -> Tensor:
        """The tensor of a name, to be copied before the next one is read."""
        tensor = self._files[name].read(name)
        self._mapped_bytes += tensor.nbytes
        if self._mapped_bytes > MAX_MAPPED_BYTES:
            self.close()
        return tensor

    def close(self) -> None:
        """Give back what was mapped."""
        self._mapped_bytes = 0
        for file in set(self._files.values()):
            file.close()


def find_weights(folder: Path) -> Path | None:
    """The file that the weights of a folder begin with, one of weights or an index; None without any."""
    return next((folder / name for name in (SINGLE, INDEX) if (folder / name).is_file()), None)


@contextmanager
def open_weights(folder: Path) -> Iterator[Weights]:
    """Read what the folder's weight files say they hold, and keep them open.

    Errors: BundleError naming the file that is missing, cut or damaged, or contradicts the index.
    """
    found = find_weights(folder)
    if found is None:
        raise BundleError(f"{folder} has no {SINGLE}; give a folder that holds config.json and {SINGLE}")
    files: Sequence[WeightFile]
    files = _shards(found, SafetensorsFile) if found.name == INDEX else [SafetensorsFile(found)]
    weights = Weights(found, files)
    try:
        yield weights
    finally:
        weights.close()


def require_readable(path: Path) -> None:
    """Refuse a file that may not be read; the libraries would call it one that is not there."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; see who may read it") from None


def shard_names(index: Path) -> dict[str, str]:
    """The shard of each tensor, by an index.

    Errors: BundleError where it is no index, or where a shard's name would leave the folder.
    """
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise BundleError(f"{index} has no weight_map that names tensors; write or download it again")
    for name, shard in places.items():
        if not isinstance(shard, str) or not shard.isprintable() or shard != shard.replace("\\", "/"):
            raise BundleError(f"{index} gives {name!r} the shard {str(shard)[:60]!r}; allowed: a file's name")
        if shard in ("", ".", "..") or Path(shard).name != shard:
            raise BundleError(
                f"{index} gives {name!r} the shard {shard[:60]!r}, which leaves the folder; allowed: the "
                "name of a file beside the index"
            )
    return places


def missing_shards(index: Path) -> list[str]:
    """The shards that an index names and its folder lacks, in order."""
    return [name for name in sorted(set(shard_names(index).values())) if not (index.parent / name).is_file()]


def _shards(index: Path, open_file: Callable[[Path], WeightFile]) -> list[WeightFile]:
    """The shards of an index, each holding exactly the tensors that the index says."""
    places = shard_names(index)
    if missing := missing_shards(index):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BundleError(
            f"{index.parent} lacks the shard {missing[0]}{more}, which {index.name} names; download it again"
        )
    files = [open_file(index.parent / name) for name in sorted(set(places.values()))]
    for file in files:
        if unnamed := [name for name in file.held if places.get(name) != file.path.name]:
            raise BundleError(
                f"{file.path} holds {len(unnamed)} tensors that {index.name} does not place there, first "
                f"{unnamed[0]}; the shard is of another model: download both again"
            )
    held = {name for file in files for name in file.held}
    if lost := [name for name in places if name not in held]:
        raise BundleError(
            f"{index.parent / places[lost[0]]} lacks {lost[0]}, which {index.name} places there; the shard "
            "is of another model: download both again"
        )
    return files


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}; {DAMAGED}") from None
