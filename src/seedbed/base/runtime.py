"""Where the work runs: the device, the precision, this process's rank, and the seeds of its generators.

Only this file reads the environment, and `threads.py`, which runs before torch is imported.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from seedbed.base.errors import ConfigError, HardwareError

PRECISIONS = ("float32", "bfloat16")
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # mallopt(3)


@dataclass(frozen=True)
class Runtime:
    """One of the `world_size` processes of a training; as a context it leaves their group at the end."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"precision={self.precision!r} is not supported; allowed: {', '.join(PRECISIONS)}"
            )

    @classmethod
    def from_environment(
        cls, device: str = "auto", *, precision: str = "float32", num_threads: int = 0
    ) -> Runtime:
        """Read the rank that torchrun has set, if any, and join the others: gloo on CPUs, nccl on GPUs.

        `auto` selects a GPU if there is one for this rank. `num_threads` per rank; 0: torch decides.
        """
        world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        place = find_device(device, int(os.environ.get("LOCAL_RANK", "0")))
        keep_freed_memory()
        if num_threads:
            torch.set_num_threads(num_threads)
        if world_size > 1:
            if place.type == "cuda":
                torch.cuda.set_device(place)
            backend = "nccl" if place.type == "cuda" else "gloo"
            dist.init_process_group(backend, rank=rank, world_size=world_size)
        return cls(device=place, precision=precision, rank=rank, world_size=world_size)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the files and the output."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[object]:
        """Compute matmuls in the precision; the weights stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the ranks, in place, on every rank."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def broadcast_int(self, value: int) -> int:
        """The number of rank 0, on every rank."""
        if self.world_size == 1:
            return value
        box = torch.tensor([value], device=self.device)
        dist.broadcast(box, 0)
        return int(box.item())

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Sum numbers over the ranks in float64, on every rank."""
        if self.world_size == 1:
            return list(values)
        return self.all_reduce_sum(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    def seed_dropout(self, seed: int, *keys: int | str) -> None:
        """Seed torch's global generators, which only dropout uses, by seed, keys and rank."""
        derived = derive_seed(seed, *keys, self.rank)
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(derived)
        else:
            torch.manual_seed(derived)


def cache_folder() -> Path:
    """Where measured figures are kept: $SEEDBED_CACHE, or `seedbed` in the user's cache."""
    if own := os.environ.get("SEEDBED_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "seedbed"


def keep_freed_memory() -> None:
    """Let the C library keep the memory that tensors free instead of returning it to the system.

    Every step frees and allocates the same large buffers; with glibc's defaults each costs its page faults.
    """
    _call_glibc("mallopt", MALLOC_TRIM_THRESHOLD, 2**31 - 1)
    _call_glibc("mallopt", MALLOC_MMAP_THRESHOLD, 2**30)


def begin_peak() -> int:
    """Restart `peak_resident_bytes` from here if the system can (Linux) -> the bytes in use now."""
    _call_glibc("malloc_trim", 0)  # memory that tensors have freed must not count in the next peak
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak of the resident set
    return peak_resident_bytes()


def _call_glibc(name: str, *arguments: int) -> None:
    """Call a function that only glibc has; elsewhere nothing happens."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), name):
        getattr(library, name)(*arguments)


def derive_seed(seed: int, *keys: int | str) -> int:
    """Hash a seed and its use to 63 bits: equal inputs give equal seeds, others unrelated ones."""
    digest = hashlib.blake2b(repr((seed, *keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def peak_resident_bytes() -> int:
    """The peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory from before the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a local rank, checked: `auto`, `cpu`, `cuda` or `cuda:1`, `mps`."""
    gpus = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if local_rank < gpus else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"device={name!r} is not a device of torch; allowed: auto, cpu, cuda, cuda:N, mps"
        ) from None
    if name == "cuda":
        device = torch.device("cuda", local_rank)
    if device.type == "cuda" and device.index >= gpus:
        raise HardwareError(
            f"device={name} was requested, but torch sees {gpus} CUDA GPUs; choose device=cpu or auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise HardwareError("device=mps was requested, but this machine has none; choose device=cpu or auto")
    return device
