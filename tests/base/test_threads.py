"""How threads wait is set before torch is loaded, unless the user has set it."""

import os

import pytest

from seedbed.base.threads import SPIN_COUNT, configure_threads


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
