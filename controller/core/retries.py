"""Owns how many requests may be run a second time: a share of all, so that retries cannot feed an overload.

Source: the retry budget of Finagle and Linkerd. *Nothing ran* is no retry and costs nothing.
"""

from __future__ import annotations

SHARE = 0.2
# A quiet router may still retry: this many a second are always there.
MINIMUM_PER_S = 10.0
# Savings from a busy minute must not become a storm.
MAX_SAVED = 100.0


class RetryBudget:
    """Tokens: a fifth of one for each request, ten a second in any case, one for each retry."""

    def __init__(self) -> None:
        self._saved = 0.0
        self._reserve = MINIMUM_PER_S
        self._at = 0.0

    def request(self) -> None:
        """A request arrived."""
        if self._saved < MAX_SAVED:
            self._saved += SHARE

    def take(self, now: float) -> bool:
        """Whether one more retry is allowed now; if so it is paid for."""
        self._reserve = min(MINIMUM_PER_S, self._reserve + (now - self._at) * MINIMUM_PER_S)
        self._at = now
        if self._saved >= 1.0:
            self._saved -= 1.0
            return True
        if self._reserve >= 1.0:
            self._reserve -= 1.0
            return True
        return False
