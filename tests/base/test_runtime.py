"""Devices, seeds and memory; several ranks are tested with the training."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from seedbed.base.errors import ConfigError, HardwareError
from seedbed.base.runtime import Runtime, derive_seed, peak_resident_bytes


def test_one_process_is_its_own_sum() -> None:
    with Runtime() as runtime:
        assert runtime.is_main and runtime.world_size == 1
        assert runtime.sum_over_ranks([1.5, 2]) == [1.5, 2]
        assert runtime.broadcast_int(7) == 7
        assert runtime.all_reduce_sum(torch.tensor([3.0])).tolist() == [3.0]


def test_devices_are_checked() -> None:
    assert Runtime.from_environment("cpu").device == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"device='gpu' .*allowed: auto, cpu, cuda, cuda:N, mps"):
        Runtime.from_environment("gpu")
    missing = torch.cuda.device_count()
    with pytest.raises(HardwareError, match=f"torch sees {missing} CUDA GPUs; choose device=cpu or auto"):
        Runtime.from_environment(f"cuda:{missing}")
    with pytest.raises(ConfigError, match=r"precision='float16' .*allowed: float32, bfloat16"):
        Runtime(precision="float16")


def test_autocast_computes_matmuls_in_bfloat16_over_float32_weights() -> None:
    weight, x = torch.ones(4, 4), torch.ones(2, 4)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with Runtime(precision=precision).autocast():
            assert torch.nn.functional.linear(x, weight).dtype == dtype
    assert weight.dtype == torch.float32


def test_derived_seeds_depend_on_seed_and_keys_alone() -> None:
    assert derive_seed(1, "dropout", 5) == derive_seed(1, "dropout", 5)
    different: list[tuple[Any, ...]] = [
        (1, "dropout", 5),
        (2, "dropout", 5),
        (1, "dropout", 6),
        (1, "data", 5),
        (1, "dropout", 5, 0),
    ]
    assert len({derive_seed(*keys) for keys in different}) == len(different)


def test_derived_seeds_do_not_change() -> None:
    # A change would change every run that is not finished.
    assert derive_seed(0) == 2631537505891389924
    assert derive_seed(1234, "weights", 5) == 8764383758852079536


def test_each_rank_has_dropout_of_its_own() -> None:
    samples = []
    with torch.random.fork_rng():
        for rank in (0, 1, 0):
            Runtime(rank=rank, world_size=2).seed_dropout(3, "dropout", 9)
            samples.append(torch.rand(3).tolist())
    assert samples[0] == samples[2] != samples[1]


def test_the_peak_counts_memory_that_was_in_use_at_once() -> None:
    code = (
        "from seedbed.base.runtime import peak_resident_bytes as peak\n"
        "before = peak()\n"
        "block = bytearray(b'x') * 100_000_000\n"
        "del block\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 90_000_000 < int(done.stdout) < 115_000_000
    assert peak_resident_bytes() > 50_000_000
