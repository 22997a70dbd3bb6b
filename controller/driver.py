"""Owns the loop between the core and the world: events in, commands out, one timer.

It notices when the process stood still. The simulation runs this same loop behind the same small protocol; it never
imports asyncio or NATS.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

from controller.core.commands import Command
from controller.core.events import TICK, Event, Stalled
from controller.core.router import Router
from controller.core.timers import NEVER

log = logging.getLogger("crank.controller")

# The loop looks at the clock at least this often, so that a longer silence means that it could not.
PULSE_S = 0.1
# Shorter pauses are everyday garbage collection and busy machines.
STALL_S = 0.5


class Surroundings(Protocol):
    """What the loop needs of the world it runs in."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def perform(self, command: Command) -> Event | None:
        """Carry a command out without blocking; an event when its answer is known at once."""
        ...

    def wake_at(self, due: float) -> None:
        """Call ``Driver.tick`` at ``due``, instead of any time asked for before."""
        ...


class Driver:
    """Feeds one router. Single-threaded; ``feed`` may be called from within ``perform``."""

    def __init__(self, router: Router, surroundings: Surroundings) -> None:
        self.router = router
        self._timers = router.timers
        self._surroundings = surroundings
        self._now = surroundings.now
        self._queue: deque[Event] = deque()
        self._busy = False
        self._last = surroundings.now()
        self._armed = NEVER

    def start(self) -> None:
        """Begin to watch the clock."""
        self._last = self._surroundings.now()
        self._arm(self._last)

    def tick(self) -> None:
        """The time asked for has come."""
        self._armed = NEVER
        self.feed(TICK)

    def feed(self, event: Event) -> None:
        """Take in an event and carry out all that follows from it."""
        queue = self._queue
        queue.append(event)
        if self._busy:
            return
        self._busy = True
        now = self._now()
        stood_still = now - self._last
        self._last = now
        if stood_still > STALL_S:
            queue.appendleft(Stalled(stood_still * 1000))
        handle, perform = self.router.handle, self._surroundings.perform
        while queue:
            event = queue.popleft()
            # A bug that one event or command uncovers must not cost the others anything.
            try:
                commands = handle(event, now)
            except Exception:
                log.exception("%s could not be handled", type(event).__name__)
                continue
            for command in commands:
                try:
                    answer = perform(command)
                except Exception:
                    log.exception("%s could not be carried out", type(command).__name__)
                    continue
                if answer is not None:
                    queue.append(answer)
        self._busy = False
        if self._armed == NEVER or self._timers.soonest < self._armed:
            self._arm(now)

    def _arm(self, now: float) -> None:
        due = self._timers.next_due()
        soonest = min(NEVER if due is None else due, now + PULSE_S)
        if soonest < self._armed:
            self._armed = soonest
            self._surroundings.wake_at(soonest)
