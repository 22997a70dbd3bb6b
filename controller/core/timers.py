"""Owns when things are due: one wheel for every deadline, so that the edge needs a single timer.

A request that ends early leaves nothing behind: adding and cancelling are a dictionary entry each. Whoever is due is
handed back; what that means is ``router``'s business.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from math import ceil
from typing import Generic, TypeVar

# Deadlines are kept to the next 5 ms: finer than any objective, coarse enough that a busy second has 200 slots.
SLOT_S = 0.005

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """Keys with a due time each; setting a key again moves it."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[K, None]] = {}
        self._order: list[int] = []
        self._slot_of: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._slot_of)

    def set(self, key: K, due: float) -> None:
        """Make ``key`` due at ``due`` (seconds on the caller's clock), never earlier."""
        self.cancel(key)
        slot = ceil(due / SLOT_S)
        keys = self._slots.get(slot)
        if keys is None:
            keys = self._slots[slot] = {}
            heapq.heappush(self._order, slot)
        keys[key] = None
        self._slot_of[key] = slot

    def cancel(self, key: K) -> None:
        """Forget ``key``; nothing happens when it is not there."""
        slot = self._slot_of.pop(key, None)
        if slot is not None:
            del self._slots[slot][key]

    def next_due(self) -> float | None:
        """When ``pop_due`` will have something, or None."""
        while self._order and not self._slots[self._order[0]]:
            del self._slots[heapq.heappop(self._order)]
        return self._order[0] * SLOT_S if self._order else None

    def pop_due(self, now: float) -> list[K]:
        """Everything that is due by ``now``, in order of time, and forgotten."""
        due: list[K] = []
        while self._order and self._order[0] * SLOT_S <= now:
            due += self._slots.pop(heapq.heappop(self._order))
        for key in due:
            del self._slot_of[key]
        return due
