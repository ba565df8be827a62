"""Signals stop the work where nothing is lost, and a second one changes nothing."""

import os
import signal
import threading

import pytest

from seedbed.base.errors import StoppedEarly
from seedbed.base.signals import StopSignals


def send(number: int) -> None:
    """A real signal, which Python hands to the main thread before the next statement or soon after."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
