"""Owns what a process can suffer: being killed and started again, frozen, cut off, and given a clock that runs wrong.

Controllers and workers are some. While it is frozen, what arrives and what is due waits for it. While it is cut off,
what arrives is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulation.clock import Clock, OwnClock
from simulation.network import PING_S

# A clock that runs wrong, by more than any real one.
_FAST, _SLOW = 1.3, 0.7


class Process:
    """Up or down; each start is another ``boot``, to which nothing of the boot before comes."""

    def __init__(self, number: int, clock: Clock) -> None:
        self.number = number
        self.clock = clock
        self.own = OwnClock(clock)
        """What it takes for the time."""
        self.boot = 0
        self.up = False
        self.frozen_at: float | None = None
        self.cut_at: float | None = None
        self._inbox: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    @property
    def listed(self) -> bool:
        """Whether nats-server hands messages to it."""
        return self.up and (self.cut_at is None or self.clock.now < self.cut_at + PING_S)

    def begin(self) -> None:
        """It starts, as a new process."""
        self.boot += 1
        self.up, self.frozen_at, self.cut_at = True, None, None
        self._inbox.clear()

    def end(self) -> None:
        """It is gone, without a goodbye."""
        self.up = False

    def start(self) -> None:
        """Start it; what it does then is its own."""
        raise NotImplementedError

    def receive(self, act: Callable[..., object], *args: Any) -> None:
        """A message for whichever boot is there."""
        if self.up and self.cut_at is None:
            self._take(act, args)

    def receive_as(self, boot: int, act: Callable[..., object], *args: Any) -> None:
        """A message for one boot: it went to an inbox that only that one had."""
        if boot == self.boot:
            self.receive(act, *args)

    def later(self, delay_s: float, act: Callable[..., object], *args: Any) -> None:
        """Do something after a while, if it is still this boot then."""
        self.clock.after(delay_s, self.due, self.boot, act, *args)

    def due(self, boot: int, act: Callable[..., object], *args: Any) -> None:
        """What this boot wanted to do is due."""
        if boot == self.boot and self.up:
            self._take(act, args)

    def _take(self, act: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self.frozen_at is not None:
            self._inbox.append((act, args))
        else:
            act(*args)

    # Troubles -----------------------------------------------------------------------

    def troubles(self) -> dict[str, Callable[[float], bool]]:
        """What can happen to it, by the plan's words: each for so many seconds, and says whether it could happen."""
        return {"kill": self.kill, "freeze": self.freeze, "cut": self.cut}

    def kill(self, for_s: float) -> bool:
        """Die at once; start again after ``for_s``, or never when that is 0."""
        if not self.up:
            return False
        self.end()
        if for_s:
            self.clock.after(for_s, self._start_again, self.boot)
        return True

    def _start_again(self, boot: int) -> None:
        if boot == self.boot and not self.up:
            self.start()

    def freeze(self, for_s: float) -> bool:
        """Stand still."""
        if not self.up or self.frozen_at is not None:
            return False
        self.frozen_at = self.own.now
        self.clock.after(for_s, self._thaw, self.boot)
        return True

    def _thaw(self, boot: int) -> None:
        if boot == self.boot and self.up:
            assert self.frozen_at is not None
            self.thawed(self.own.now - self.frozen_at)
            self.frozen_at = None
            waiting, self._inbox = self._inbox, []
            for act, args in waiting:
                self.due(boot, act, *args)

    def thawed(self, stood_s: float) -> None:
        """It goes on, after so long by its own clock; first with what waited."""

    def cut(self, for_s: float) -> bool:
        """Be cut off from the server."""
        if not self.up or self.cut_at is not None:
            return False
        self.cut_at = self.clock.now
        self.clock.after(for_s, self._mend, self.boot)
        return True

    def _mend(self, boot: int) -> None:
        if boot == self.boot and self.up:
            self.cut_at = None
            self._take(self.connected_again, ())

    def connected_again(self) -> None:
        """The connection is back."""

    def fast(self, for_s: float) -> bool:
        """Its machine's clock runs too fast."""
        return self._runs_at(_FAST, for_s)

    def slow(self, for_s: float) -> bool:
        """Its machine's clock runs too slow."""
        return self._runs_at(_SLOW, for_s)

    def _runs_at(self, rate: float, for_s: float) -> bool:
        self._set_pace(rate)
        self.clock.after(for_s, self._set_pace, 1.0)
        return True

    def _set_pace(self, rate: float) -> None:
        self.own.run_at(rate)
        self.clock_changed(0.0)

    def jump(self, by_s: float) -> bool:
        """Its machine's clock shows more at once."""
        self.own.jump(by_s)
        self.clock_changed(by_s)
        return True

    def clock_changed(self, jumped_s: float) -> None:
        """What was to happen at a time of its own happens at another time of the world."""
