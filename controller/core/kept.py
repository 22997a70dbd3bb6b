"""Owns the answers that are kept in memory, in front of the store: bounded in bytes, each for its remaining life.

Only acknowledged answers come in here, and only those written by this process: how old somebody else's is cannot be
told without comparing clocks. ``keyed`` looks here before anything is chosen or written.
"""

from __future__ import annotations

from collections.abc import Callable

from cachetools import LRUCache

from subjects.claims import ClaimRecord

# What an entry takes beside its body, by measurement of a small one.
_OVERHEAD_BYTES = 1500


def _size(kept: tuple[ClaimRecord, float]) -> int:
    answer = kept[0].answer
    return _OVERHEAD_BYTES + (0 if answer is None else len(answer.body) + len(answer.passed))


class KeptRecords:
    """Records of what is done, the least recently used out first, by caller, capability and key.

    What stands for these three in the store is not needed to find one here, and takes longer than finding it. The end
    of a record's life stands beside it: a cache that keeps its entries in the order of their ends takes thrice as long.
    """

    def __init__(self, max_bytes: int, now: Callable[[], float]) -> None:
        self._cache: LRUCache[tuple[str, str, str], tuple[ClaimRecord, float]] = LRUCache(max_bytes, _size)
        self._now = now

    def __len__(self) -> int:
        return len(self._cache)

    def get(self, caller: str, capability: str, key: str) -> ClaimRecord | None:
        """The record, or None."""
        kept = self._cache.get((caller, capability, key))
        if kept is None:
            return None
        record, until = kept
        if self._now() < until:
            return record
        del self._cache[caller, capability, key]
        return None

    def put(self, record: ClaimRecord, age_s: float = 0.0) -> None:
        """Keep it, if it is not larger than everything that may be kept. It was stored up to ``age_s`` ago."""
        kept = record, self._now() + record.window_s - age_s
        if _size(kept) <= self._cache.maxsize:
            self._cache[record.caller, record.capability, record.key] = kept
