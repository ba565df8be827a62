"""The weight files of a bundle: one, or shards with an index; pickles if there are no safetensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

from torch import Tensor

from seedbed.base.errors import BundleError
from seedbed.base.json_file import has_file, read_object
from seedbed.hub.tensor_files import PickleFile, SafetensorsFile

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Mapped pages that were read count as this process's memory until the file is closed.
MAX_MAPPED_BYTES = 1 << 26

WeightFile = SafetensorsFile | PickleFile


class Weights:
    """All tensors of a bundle; `path` is the only weight file, or the index of the shards."""

    def __init__(self, path: Path, files: Sequence[WeightFile]) -> None:
        self.path = path
        self._files = {name: file for file in files for name in file.headers}
        self.headers = {name: header for file in files for name, header in file.headers.items()}
        self.files = [file.path for file in files]
        self.num_bytes = sum(file.stat().st_size for file in self.files)
        self._mapped_bytes = 0

    def read(self, name: str) -> Tensor:
        """A tensor by name, to be copied before the next one is read."""
        tensor = self._files[name].read(name)
        self._mapped_bytes += tensor.nbytes
        if self._mapped_bytes > MAX_MAPPED_BYTES:
            self.close()
        return tensor

    def numbers(self) -> Counter[str]:
        """How many numbers there are of each type; tensors of integers, masks and positions, do not count."""
        counts: Counter[str] = Counter()
        for shape, dtype in self.headers.values():
            if dtype is None or dtype.is_floating_point:
                counts[str(dtype).removeprefix("torch.")] += prod(shape)
        return counts

    def close(self) -> None:
        """Unmap the files."""
        self._mapped_bytes = 0
        for file in set(self._files.values()):
            file.close()


def find_weights(folder: Path, *, allow_pickle: bool = False) -> Path | None:
    """The weight file or the index of a folder, None if it has neither."""
    names = (WEIGHTS, INDEX, *PICKLES) if allow_pickle else (WEIGHTS, INDEX)
    return next((folder / name for name in names if has_file(folder / name)), None)


@contextmanager
def open_weights(folder: Path, *, allow_pickle: bool = False) -> Iterator[Weights]:
    """Read the headers of the folder's weight files and keep the files open. Errors: BundleError."""
    found = find_weights(folder, allow_pickle=allow_pickle)
    if found is None:
        if (pickle := find_weights(folder, allow_pickle=True)) is not None:
            raise BundleError(f"{folder} {only_pickles(pickle.name)}")
        raise BundleError(f"{folder} has no {WEIGHTS}; give a folder with {CONFIG} and {WEIGHTS}")
    open_file = PickleFile if found.name in PICKLES else SafetensorsFile
    weights = Weights(found, _shards(found, open_file) if is_index(found) else [open_file(found)])
    try:
        yield weights
    finally:
        weights.close()


def only_pickles(name: str) -> str:
    """The problem of a model whose only weights are a pickle."""
    return (
        f"has its weights only as a pickle ({name}), a format that can run programs; if you trust its "
        "source, give --allow-pickle, or allow_pickle=True in Python"
    )


def is_index(found: Path) -> bool:
    """Whether a path from `find_weights` is an index of shards."""
    return found.suffix == ".json"


def shard_names(index: Path) -> dict[str, str]:
    """The shard of each tensor in an index; BundleError for another file, or a shard elsewhere."""
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise BundleError(f"{index} has no weight_map of tensors; write or download it again")
    for name, shard in shards.items():
        if not name.isprintable():
            raise BundleError(f"{index} names {name[:40]!r}, which cannot be printed; download it again")
        is_file_name = isinstance(shard, str) and shard.isprintable() and "\\" not in shard
        if not is_file_name or shard in ("", "..") or Path(shard).name != shard or len(shard) > 255:
            raise BundleError(
                f"{index} gives {name!r} the shard {str(shard)[:60]!r}; allowed: the name of a file beside it"
            )
    return shards


def missing_shards(index: Path) -> list[str]:
    """The shards that an index names and its folder lacks, in order."""
    return [name for name in sorted(set(shard_names(index).values())) if not (index.parent / name).is_file()]


def _shards(index: Path, open_file: Callable[[Path], WeightFile]) -> list[WeightFile]:
    """The shards of an index, each with exactly the tensors that the index places there."""
    places = shard_names(index)
    if missing := missing_shards(index):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BundleError(
            f"{index.parent} lacks the shard {missing[0]}{more}, which {index.name} names; download it again"
        )
    files = [open_file(index.parent / name) for name in sorted(set(places.values()))]
    for file in files:
        if unnamed := [name for name in file.headers if places.get(name) != file.path.name]:
            raise BundleError(
                f"{file.path} has {len(unnamed)} tensors that {index.name} does not place there, first "
                f"{unnamed[0]}; the shard belongs to another model: download both again"
            )
    stored = {name for file in files for name in file.headers}
    if lost := [name for name in places if name not in stored]:
        raise BundleError(
            f"{index.parent / places[lost[0]]} lacks {lost[0]}, which {index.name} places there; the shard "
            "belongs to another model: download both again"
        )
    return files
