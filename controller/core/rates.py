"""Owns how much each caller may ask for: token buckets, of which every live controller holds its share.

A queue group spreads a caller's requests evenly in the long run, so each of N controllers grants one N-th of the rate;
and a little more than that of a burst, which chance spreads less evenly.
"""

from __future__ import annotations

import math

from controller.core.objectives import Rate, Rates

# Callers whose buckets are kept; whoever was forgotten begins with a full one.
MAX_CALLERS = 10_000
# Whoever waits as long as it was told lacks no more than this.
_ROUNDING = 1e-9


def _share_of(burst: float, controllers: int) -> float:
    """How many of a burst come to one of so many controllers, at most: the mean and two standard deviations."""
    mean = burst / controllers
    return max(1.0, min(burst, mean + 2.0 * math.sqrt(mean * (1.0 - 1.0 / controllers))))


class Buckets:
    """The buckets of one controller, by caller."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}
        """Tokens left, and when that was."""

    def take(self, caller: str, rates: Rates, controllers: int, now: float) -> tuple[Rate, float] | None:
        """Take one token; None when there was one, else the rate and how many seconds until there is.

        ``controllers``: how many share what a caller may ask for, this one included.
        """
        rate = rates.of(caller)
        if rate is None:
            return None
        per_s, burst = rate.per_s / controllers, _share_of(rate.burst, controllers)
        # The one that asked last stands last, so that those who are forgotten have asked for nothing for long.
        tokens, at = self._buckets.pop(caller, (burst, now))
        tokens = min(burst, tokens + (now - at) * per_s)
        granted = tokens >= 1.0 - _ROUNDING
        if len(self._buckets) >= MAX_CALLERS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[caller] = (max(0.0, tokens - granted), now)
        return None if granted else (rate, (1.0 - tokens) / per_s)
