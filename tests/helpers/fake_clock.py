"""A clock of Python that a test moves."""

import time


class FakeClock:
    """A clock that only moves when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def takes(self, seconds):
        def measure():
            self.now += seconds
            return {"s": seconds}

        return measure
