"""Owns the protection of keyed requests. Without a store there is none, and a keyed request must not run without."""

from __future__ import annotations


class NoClaims:
    """Refuses every key: running a keyed request unprotected would break the promise that the key asks for."""

    def why_not(self) -> str:
        """Why keys cannot be protected here."""
        return "this controller keeps no idempotency keys yet"
