"""The probe: what this machine has, and how fast it multiplies, reads memory and makes a call, in about a
second."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

# The sides of the square products that are timed: a small model's and a large one's.
SIDES = (256, 1024)
BURST_SECONDS = 0.12


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a plan is made from; rates are the best of short bursts, on all threads that torch uses.

    `matmul_flops` are FLOP/s (2 a multiply-add) by precision; `read_bytes` a second in a matrix-vector
    product, `copy_bytes` a second in an elementwise pass; `call_seconds` what one small torch call costs.
    """

    cpu: str
    instructions: str
    num_cores: int
    num_threads: int
    memory_bytes: int
    available_bytes: int
    gpus: tuple[str, ...]
    matmul_flops: dict[str, float]
    read_bytes: float
    copy_bytes: float
    call_seconds: float

    @property
    def precision(self) -> str:
        """The faster of float32 and bfloat16, which must win clearly: casts and rounding cost too."""
        return "bfloat16" if self.matmul_flops["bfloat16"] > 1.5 * self.matmul_flops["float32"] else "float32"

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)


def machine() -> dict[str, Any]:
    """What can be read without measuring."""
    memory = _meminfo()
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "cpu": _cpu_name(),
        "instructions": capability,
        "num_cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "num_threads": torch.get_num_threads(),
        "memory_bytes": memory.get("MemTotal", 0),
        "available_bytes": memory.get("MemAvailable", 0),
        "gpus": tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
    }


@cache
def probe() -> Hardware:
    """Measure this machine once a process."""
    rates: dict[str, float] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        side = SIDES[-1]
        a, b = torch.ones(side, side, dtype=dtype), torch.ones(side, side, dtype=dtype)
        rates[name] = 2 * side**3 / best_seconds(lambda a=a, b=b: torch.mm(a, b))  # type: ignore[misc]
    weights = torch.ones(4096, 4096)
    vector, x = torch.ones(1, 4096), torch.ones(16_000_000)
    small = torch.ones(8)
    return Hardware(
        **machine(),
        matmul_flops=rates,
        read_bytes=weights.numel() * 4 / best_seconds(lambda: torch.nn.functional.linear(vector, weights)),
        copy_bytes=x.numel() * 8 / best_seconds(lambda: x.mul_(1.0)),
        call_seconds=best_seconds(lambda: torch.add(small, small)),
    )


def best_seconds(call: Callable[[], object], *, burst_seconds: float = BURST_SECONDS) -> float:
    """Seconds that `call` takes when nothing else disturbs it: the fastest of those that fit in a burst."""
    call()
    best, end = float("inf"), time.perf_counter() + burst_seconds
    while True:
        started = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - started)
        if now > end:
            return best


def disk_free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds `path` or will."""
    place = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(place).free


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _meminfo() -> dict[str, int]:
    info = Path("/proc/meminfo")
    if not info.exists():
        return {}
    pairs = (line.split(":") for line in info.read_text().splitlines() if line.endswith("kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}
