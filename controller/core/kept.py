"""Owns the answers that are kept in memory, in front of the store: bounded in bytes, each for its remaining life.

Only acknowledged answers come in here, and only those written by this process: how old somebody else's is cannot be
told without comparing clocks. ``claims`` asks before it writes.
"""

from __future__ import annotations

from cachetools import TLRUCache

from controller.core.world import World
from subjects.claims import ClaimRecord

# What an entry takes beside its body, by measurement of a small one.
_OVERHEAD_BYTES = 1500


def _size(record: ClaimRecord) -> int:
    answer = record.answer
    return _OVERHEAD_BYTES + (0 if answer is None else len(answer.body) + len(answer.passed))


class KeptRecords:
    """Final records by key, the least recently used out first."""

    def __init__(self, world: World) -> None:
        self._cache: TLRUCache[str, ClaimRecord] = TLRUCache(
            world.limits.cache_bytes,
            ttu=lambda key, record, now: now + record.window_s,
            timer=lambda: world.now,
            getsizeof=_size,
        )

    def __len__(self) -> int:
        return len(self._cache)

    def get(self, key: str) -> ClaimRecord | None:
        """The record, or None."""
        record: ClaimRecord | None = self._cache.get(key)
        return record

    def put(self, key: str, record: ClaimRecord) -> None:
        """Keep it, if it is not larger than everything that may be kept."""
        if _size(record) <= self._cache.maxsize:
            self._cache[key] = record
