"""How threads wait is set before torch is loaded, unless the user has set it."""

import os
import subprocess
import sys

import pytest

from seedbed.base.threads import SPIN_COUNT, TUNABLES, configure_threads


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that sets nothing about threads; a test's changes are undone."""
    for name in (
        "OMP_WAIT_POLICY",
        "GOMP_SPINCOUNT",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
        "LRU_CACHE_CAPACITY",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_threads_spin_briefly(nothing_set: pytest.MonkeyPatch) -> None:
    configure_threads()
    assert os.environ["GOMP_SPINCOUNT"] == SPIN_COUNT


@pytest.mark.parametrize("name, value", [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7")])
def test_a_users_setting_stays(nothing_set: pytest.MonkeyPatch, name: str, value: str) -> None:
    nothing_set.setenv(name, value)
    configure_threads()
    assert os.environ.get("GOMP_SPINCOUNT") == (value if name == "GOMP_SPINCOUNT" else None)


@pytest.mark.parametrize("own", ["", "glibc.malloc.arena_max=1"])
def test_a_process_restarts_once_with_its_input_and_its_exit_code(own: str) -> None:
    program = (
        "import os, sys; from seedbed.base.threads import restart_with_tight_heap;"
        "print('began', flush=True);"
        f"restart_with_tight_heap(); print(os.environ['{TUNABLES}'], sys.argv[1], input()); sys.exit(3)"
    )
    command = [sys.executable, "-c", program, "a b"]
    environment = {name: value for name, value in os.environ.items() if name != TUNABLES}
    environment |= {TUNABLES: own} if own else {}
    done = subprocess.run(
        command, input="typed", capture_output=True, text=True, env=environment, check=False
    )
    setting = ":".join(filter(None, (own, "glibc.malloc.tcache_count=0")))
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines() == ["began", "began", f"{setting} a b typed"]
