"""How threads wait is said before torch is loaded, unless the user has said it."""

import os

import pytest

from seedbed.base.threads import SPIN_COUNT, spin_briefly


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing about threads; what a test adds is taken back."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_threads_spin_briefly(nothing_said: pytest.MonkeyPatch) -> None:
    spin_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == SPIN_COUNT


@pytest.mark.parametrize("name, value", [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7")])
def test_what_the_user_says_stays(nothing_said: pytest.MonkeyPatch, name: str, value: str) -> None:
    nothing_said.setenv(name, value)
    spin_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == (value if name == "GOMP_SPINCOUNT" else None)
