"""Signals during training."""

import signal
import threading
import time

import pytest

from unetrpp.trainers.interrupt import SAME_SECONDS, StopRequest


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request):
    """Of a signal that this process does not ignore, as a command does that a shell has put into the background."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def test_the_first_signal_is_recorded_and_a_later_one_stops(number, monkeypatch):
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        signal.raise_signal(number)  # at once: the same request by another way
        assert stop.requested
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + SAME_SECONDS)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    with StopRequest() as stop:
        signal.raise_signal(number)
        assert not stop.requested
    assert signal.getsignal(number) == signal.SIG_IGN


def test_other_threads_leave_the_handlers_alone():
    found = []

    def enter():
        with StopRequest() as stop:
            found.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(False, signal.getsignal(signal.SIGINT))]
