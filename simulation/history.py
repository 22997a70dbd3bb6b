"""Owns what happened: a digest of all of it, the last lines of it, and the first law that was broken.

Two runs with the same digest took the same way. Ticks of the clock are left out.
"""

from __future__ import annotations

import hashlib
from collections import deque

from simulation.clock import Clock
from simulation.laws import Broken

# Enough to see what led to it.
KEPT = 400


class History:
    """One run's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.broken: Broken | None = None
        self.broken_at = 0.0
        self.last: deque[str] = deque(maxlen=KEPT)
        self._digest = hashlib.blake2b(digest_size=16)

    def tell(self, who: str, what: str) -> None:
        """Something happened."""
        line = f"{self._clock.now:.4f} {who} {what}"
        self.last.append(line)
        self._digest.update(line.encode())

    def breaks(self, broken: Broken) -> None:
        """A law is broken; the first one counts."""
        if self.broken is None:
            self.broken, self.broken_at = broken, self._clock.now

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return self._digest.hexdigest()
