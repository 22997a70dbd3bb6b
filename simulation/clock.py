"""Owns time: what happens next, and when that is. Nothing waits; the clock jumps from one happening to the next.

``OwnClock`` is what one process takes for the time: it runs faster or slower than the world's, and may jump.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

# Not zero, as a machine's monotonic clock is not when a process starts.
START_S = 1000.0
# More than what a time loses when it is taken from one clock to another.
_ROUNDING_S = 1e-9


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


class OwnClock:
    """A monotonic clock of one machine. It never goes back; nobody can tell a jump from having stood still."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rate = 1.0
        self._since, self._then = clock.now, clock.now

    @property
    def now(self) -> float:
        """What it shows."""
        return self._shows(self._clock.now)

    def world(self, due: float) -> float:
        """When, by the world's clock, this one will show ``due``, if nothing happens to it; never earlier."""
        at = self._clock.now + (due - self.now) / self._rate
        return at if self._shows(at) >= due else at + _ROUNDING_S

    def _shows(self, at: float) -> float:
        return self._then + (at - self._since) * self._rate

    def run_at(self, rate: float) -> None:
        """Run so much faster from now on; 1 is the world's own pace."""
        self._then, self._since, self._rate = self.now, self._clock.now, rate

    def jump(self, by_s: float) -> None:
        """Show so much more at once."""
        self._then += by_s
