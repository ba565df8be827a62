"""Signals stop the work where nothing is lost, and a second one changes nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from seedbed.base import signals as module
from seedbed.base.errors import StoppedEarly
from seedbed.base.signals import StopSignals, in_worker, library_works


def send(number: int) -> None:
    """A real signal, which Python hands to the main thread before the next statement or soon after."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_work_that_is_not_held(number: signal.Signals) -> None:
    with (
        pytest.raises(
            StoppedEarly, match=f"stopped by {number.name}; .*run the same command again"
        ) as caught,
        StopSignals(),
    ):
        send(number)
        pytest.fail("continued after the signal")
    assert caught.value.exit_code == 75


def test_held_work_ends_first_however_many_signals_arrive() -> None:
    done = []
    with pytest.raises(StoppedEarly, match="SIGINT"), StopSignals() as signals, signals.hold():
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            send(number)
        assert signals.requested == "SIGINT"
        done.append("saved")
    assert done == ["saved"]


def test_a_second_signal_does_not_cut_the_clean_up_of_the_first() -> None:
    cleaned = []
    with pytest.raises(StoppedEarly), StopSignals():
        try:
            send(signal.SIGINT)
        finally:
            send(signal.SIGINT)
            cleaned.append(True)
    assert cleaned == [True]


def test_an_error_of_held_work_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="its own"), StopSignals() as signals, signals.hold():
        send(signal.SIGINT)
        raise ValueError("its own")


def test_earlier_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_off_the_main_thread_nothing_is_installed() -> None:
    entered = []

    def work() -> None:
        with StopSignals() as signals:
            entered.append(signals.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [""]


def test_a_signal_does_not_wait_for_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)
    released, ended = threading.Event(), threading.Event()

    def library(items: Iterator[int]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        released.wait()  # no handler would run before it returns
        with pytest.raises(StoppedEarly, match="nobody waits"):
            next(items)
        ended.set()

    with (
        pytest.raises(StoppedEarly, match="stopped by SIGTERM; nothing yet: run"),
        StopSignals("nothing yet"),
    ):
        in_worker(library, iter([1]))
    assert library_works()
    released.set()
    assert ended.wait(5)


def test_what_a_library_raises_is_raised() -> None:
    seen: list[int] = []
    in_worker(seen.extend, range(3))
    assert seen == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        in_worker(list, (1 // n for n in (1, 0)))


def test_a_signal_ends_a_process_that_trains_a_tokenizer(tmp_path: Path) -> None:
    """The library counts and merges words here for a minute; the verb ends with its line, its code."""
    letters = np.random.default_rng(0).integers(97, 123, 8_000_000, dtype=np.uint8)
    letters[np.random.default_rng(1).integers(0, len(letters), len(letters) // 6)] = 32
    (tmp_path / "words.txt").write_bytes(letters.tobytes())
    command = [sys.executable, "-m", "seedbed", "tokenizer", str(tmp_path / "words.txt")]
    command += ["--vocab-size", "60000", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("training a tokenizer on")
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 75
        said = process.stderr.read()
    assert said == "seedbed: stopped by SIGTERM; nothing is written: run the same command again\n"
    assert not (tmp_path / "out").exists()
