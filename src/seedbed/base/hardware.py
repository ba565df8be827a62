"""The two-second probe: what this machine is, and how fast its matmuls, its memory and torch's calls are."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from seedbed.base.kept import kept
from seedbed.base.runtime import PRECISIONS, begin_peak, peak_resident_bytes

# (tokens, in, out) of the matmuls: those in the layers of 4 x 128, 6 x 384 and 12 x 768 networks.
SHAPES = ((768, 128, 512), (1024, 384, 1536), (1024, 768, 3072), (1024, 3072, 768))
PROBE_SECONDS, BURST_SECONDS = 2.0, 0.02
# 64 MiB in float32: more than a core's share of the caches, less than a small run needs.
MEMORY_NUMBERS = 2**24
WORTHWHILE_GAIN = 1.5
# The limit and the use of a control group, by the controller's name: version 2 has none, version 1 `memory`.
GROUP_FILES = {
    "": ("memory.max", "memory.current"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}


@dataclass(frozen=True)
class MatmulSpeed:
    """The measured FLOP/s of x (num_tokens, d_in) @ W (d_in, d_out), a multiply-add counted as two."""

    precision: str
    num_tokens: int
    d_in: int
    d_out: int
    flops_per_second: float


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A measured machine; rates are the best of short bursts, on all threads that torch uses.

    `read_bytes` per second of a matrix-vector product (decoding at batch 1), `copy_bytes` per second of an
    elementwise sum, all three tensors counted; `call_seconds` of one small torch call.
    """

    cpu: str
    instructions: str  # amx avx512 avx2 neon, or torch's name for them
    num_cores: int  # physical ones that this process may use
    num_threads: int  # of torch
    memory_bytes: int
    available_bytes: int
    gpus: tuple[str, ...]
    device: str
    torch: str
    matmuls: tuple[MatmulSpeed, ...]
    read_bytes: float
    copy_bytes: float
    call_seconds: float
    age_seconds: float = 0.0  # of the rates

    @property
    def matmul_flops(self) -> dict[str, float]:
        """The highest FLOP/s by precision."""
        return {
            precision: max(p.flops_per_second for p in self.matmuls if p.precision == precision)
            for precision in PRECISIONS
        }

    @property
    def precision(self) -> str:
        """bfloat16 if it is clearly faster than float32 at its best shape: casts and rounding cost too."""
        rates = {((p.num_tokens, p.d_in, p.d_out), p.precision): p.flops_per_second for p in self.matmuls}
        gains = (rates[shape, "bfloat16"] / rates[shape, "float32"] for shape, _ in rates)
        return "bfloat16" if max(gains) > WORTHWHILE_GAIN else "float32"

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self) | {"matmul_flops": self.matmul_flops, "precision": self.precision}


@cache
def probe(*, renew: bool = False) -> Hardware:
    """This machine, with the rates of its CPU that are kept on disk, or measured in about two seconds.

    A rate is that of the fastest of several short bursts, which other processes disturb least.
    """
    key = {"cpu": cpu_name(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    key |= {"instructions": instructions()}
    (matmuls, rates), age = kept("probe", key, _measure, read=_rates, renew=renew)
    total, available = memory()
    return Hardware(
        cpu=cpu_name(),
        instructions=instructions(),
        num_cores=num_cores(),
        num_threads=torch.get_num_threads(),
        memory_bytes=total,
        available_bytes=available,
        gpus=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        device="cpu",
        torch=torch.__version__,
        matmuls=matmuls,
        **rates,
        age_seconds=age,
    )


def _rates(values: dict[str, Any]) -> tuple[tuple[MatmulSpeed, ...], dict[str, float]]:
    """The rates from JSON. Errors: KeyError, TypeError or ValueError for others."""
    rates = {name: values[name] for name in ("read_bytes", "copy_bytes", "call_seconds")}
    matmuls = tuple(MatmulSpeed(*each) for each in values["matmuls"])
    every = [*rates.values(), *(each.flops_per_second for each in matmuls)]
    if not all(0 < rate < math.inf for rate in every) or len(matmuls) != len(PRECISIONS) * len(SHAPES):
        raise ValueError("a rate is missing or not positive")
    return matmuls, rates


def _measure() -> dict[str, Any]:
    """The rates, as JSON."""
    cpu, measures = torch.device("cpu"), _measures()
    best = dict.fromkeys(measures, math.inf)
    for call in measures.values():
        call()  # the first call loads the kernels
    end = time.perf_counter() + PROBE_SECONDS
    while time.perf_counter() <= end:
        for name, call in measures.items():
            best[name] = min(best[name], seconds_per_call(call, burst=BURST_SECONDS, device=cpu))
    return {
        "matmuls": [
            (precision, *shape, 2 * math.prod(shape) / best[precision, *shape])
            for precision in PRECISIONS
            for shape in SHAPES
        ],
        "read_bytes": 4 * MEMORY_NUMBERS / best["read"],
        "copy_bytes": 4 * MEMORY_NUMBERS / best["copy"],
        "call_seconds": best["call"],
    }


def _measures() -> dict[Hashable, Callable[[], object]]:
    """The calls to time, by name and shape."""
    measures: dict[Hashable, Callable[[], object]] = {}
    # All tensors are views of one: the probe's memory must stay below the peak of the run that follows.
    numbers = torch.ones(MEMORY_NUMBERS)
    for precision in PRECISIONS:
        typed = numbers.view(getattr(torch, precision))
        for n, d_in, d_out in SHAPES:
            x, weight = (typed[: rows * d_in].view(rows, d_in) for rows in (n, d_out))
            measures[precision, n, d_in, d_out] = partial(F.linear, x, weight)
    matrix = numbers.view(-1, 1024)
    a, b, c = numbers[: 3 * (MEMORY_NUMBERS // 3)].chunk(3)
    little = torch.ones(8)
    measures["read"] = partial(F.linear, torch.ones(1, 1024), matrix)
    measures["copy"] = partial(torch.add, a, b, out=c)
    measures["call"] = partial(torch.add, little, little)
    return measures


def seconds_per_call(call: Callable[[], object], *, burst: float = 0.0, device: torch.device) -> float:
    """Seconds per call, over as many calls as a burst of seconds has time for, at least one."""
    _finish(device)
    started, num_calls = time.perf_counter(), 0
    while num_calls == 0 or time.perf_counter() - started <= burst:
        call()
        num_calls += 1
    _finish(device)
    return (time.perf_counter() - started) / num_calls


@cache
def matmul_speed(device: torch.device) -> float:
    """FLOP/s of float32 matmuls now, beside the other processes of the machine."""
    n, d_in, d_out = SHAPES[2]
    call = partial(F.linear, torch.ones(n, d_in, device=device), torch.ones(d_out, d_in, device=device))
    call()
    return 2 * n * d_in * d_out / seconds_per_call(call, burst=0.1, device=device)


def _finish(device: torch.device) -> None:
    """Wait until a GPU has done its calls."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cpu_name() -> str:
    """The processor's name as its maker writes it."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return cpu_info("model name") or platform.processor() or platform.machine()


def instructions() -> str:
    """The widest vector or matrix instructions that torch can use."""
    if "amx_bf16" in cpu_info("flags").split():
        return "amx"
    is_arm = platform.machine() in ("arm64", "aarch64")
    return "neon" if is_arm else torch.backends.cpu.get_cpu_capability().lower()


def num_cores() -> int:
    """Physical cores that this process may use; hyperthreads of one core count once."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({_read(Path(topology.format(cpu))) or str(cpu) for cpu in usable})


def memory() -> tuple[int, int]:
    """Bytes of memory in total and free for this process, within its control group's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = re.search(r"^MemAvailable: +(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    available = int(free[1]) * 1024 if free else total
    for limit, used in _group_limits(_read(Path("/proc/self/cgroup")), Path("/sys/fs/cgroup")):
        if limit < total:
            total, available = limit, min(available, limit - used)
    return total, available


def _group_limits(groups: str, root: Path) -> Iterable[tuple[int, int]]:
    """(limit, used) in bytes of each control group of this process; the page cache counts as free."""
    for line in groups.splitlines():
        _, kind, path = line.split(":", 2)
        if kind not in GROUP_FILES:
            continue
        # Inside a container the root that it sees is often its own group.
        for folder in {root / kind / path.strip("/"), root / kind}:
            limit, used = (_read(folder / name).strip() for name in GROUP_FILES[kind])
            if limit.isdigit() and used.isdigit():
                stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
                cached = stat.get("total_inactive_file", stat.get("inactive_file", "0"))
                yield int(limit), int(used) - int(cached)


class ResidentPeak:
    """The peak resident memory of this process above its value at the start, lap by lap.

    `is_exact` if the system can restart the count (Linux); elsewhere a lap's peak includes earlier laps.
    """

    def __init__(self) -> None:
        self._first_bytes, self._peak_bytes = begin_peak(), 0
        self.is_exact = Path("/proc/self/clear_refs").exists()

    def lap(self) -> int:
        """Return freed memory to the system and start a lap -> bytes in use now, above the start."""
        self._peak_bytes = self.most()
        return begin_peak() - self._first_bytes

    def peak(self) -> int:
        """The peak of this lap in bytes, above the start."""
        return peak_resident_bytes() - self._first_bytes

    def most(self) -> int:
        """The peak of all laps in bytes, above the start."""
        return max(self._peak_bytes, self.peak())


def disk_free_bytes(folder: str | Path) -> int:
    """Free bytes on the disk of `folder`, which need not exist yet."""
    path = Path(folder).absolute()
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free


def cpu_info(key: str) -> str:
    """The first processor's value of a key in /proc/cpuinfo, empty if there is none; it reads no further."""
    with suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        fields = (line.partition(":") for line in lines)
        return next((value.strip() for name, _, value in fields if name.strip() == key), "")
    return ""


def _read(path: Path) -> str:
    """The content of a small system file, empty if there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
