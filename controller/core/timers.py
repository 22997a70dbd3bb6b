"""Owns when things are due: one wheel for every deadline, so that the edge needs a single timer.

A request that ends early leaves nothing behind: adding and cancelling are a dictionary entry each, and slots that
emptied before their time are swept when they are the most. Whoever is due is handed back; what that means is
``router``'s business.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from math import ceil
from typing import Generic, TypeVar

# Deadlines are kept to the next 5 ms: finer than any objective, coarse enough that a busy second has 200 slots.
SLOT_S = 0.005
NEVER = float("inf")
# Fewer empty slots than this are not worth a sweep.
_FEW = 64

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """Keys with a due time each; setting a key again moves it."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[K, None]] = {}
        self._order: list[int] = []
        self._slot_of: dict[K, int] = {}
        self.soonest = NEVER
        """Nothing is due before this; what was due then may be cancelled by now, which ``next_due`` knows."""
        self._empty = 0
        """Slots whose keys were all cancelled."""

    def __len__(self) -> int:
        return len(self._slot_of)

    def __contains__(self, key: object) -> bool:
        return key in self._slot_of

    def set(self, key: K, due: float) -> None:
        """Make ``key`` due at ``due`` (seconds on the caller's clock), never earlier."""
        if key in self._slot_of:
            self.cancel(key)
        slot = ceil(due / SLOT_S)
        if slot * SLOT_S < due:  # by the last bit: division and product round differently
            slot += 1
        keys = self._slots.get(slot)
        if keys is None:
            keys = self._slots[slot] = {}
            heapq.heappush(self._order, slot)
            self.soonest = self._order[0] * SLOT_S
        elif not keys:
            self._empty -= 1
        keys[key] = None
        self._slot_of[key] = slot

    def cancel(self, key: K) -> None:
        """Forget ``key``; nothing happens when it is not there."""
        slot = self._slot_of.pop(key, None)
        if slot is not None:
            keys = self._slots[slot]
            del keys[key]
            if not keys:
                self._empty += 1
                if self._empty > _FEW and self._empty * 2 > len(self._order):
                    self._sweep()

    def _sweep(self) -> None:
        """Forget the empty slots; amortised, a cancelled key costs no more for it."""
        self._slots = {slot: keys for slot, keys in self._slots.items() if keys}
        self._order = sorted(self._slots)  # a sorted list is a heap
        self._empty = 0

    def next_due(self) -> float | None:
        """When ``pop_due`` will have something, or None."""
        while self._order and not self._slots[self._order[0]]:
            del self._slots[heapq.heappop(self._order)]
            self._empty -= 1
        self.soonest = self._order[0] * SLOT_S if self._order else NEVER
        return self.soonest if self._order else None

    def pop_due(self, now: float) -> list[K]:
        """Everything that is due by ``now``, in order of time, and forgotten."""
        due: list[K] = []
        while self._order and self._order[0] * SLOT_S <= now:
            keys = self._slots.pop(heapq.heappop(self._order))
            self._empty -= not keys
            due += keys
        for key in due:
            del self._slot_of[key]
        return due
