"""Owns time: what happens next, and when that is. Nothing waits; the clock jumps from one happening to the next."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

# Not zero, as a machine's monotonic clock is not when a process starts.
START_S = 1000.0


class Clock:
    """The one virtual clock. What is due at the same time happens in the order in which it was asked for."""

    def __init__(self) -> None:
        self.now = START_S
        self._due: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._asked = 0

    def after(self, delay_s: float, act: Callable[..., object], *args: Any) -> None:
        """Call ``act(*args)`` when so much time has passed."""
        self.at(self.now + delay_s, act, *args)

    def at(self, due: float, act: Callable[..., object], *args: Any) -> None:
        """Call ``act(*args)`` at ``due``, or now when that is over."""
        self._asked += 1
        heappush(self._due, (due, self._asked, act, args))

    def run(self, until: float, go_on: Callable[[], bool]) -> None:
        """Let everything happen that is due by ``until``, as long as ``go_on`` says so."""
        due = self._due
        while due and due[0][0] <= until and go_on():
            at, _, act, args = heappop(due)
            if at > self.now:
                self.now = at
            act(*args)
        if go_on():
            self.now = max(self.now, until)
