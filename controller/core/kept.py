"""Owns the answers that are kept in memory, in front of the store: bounded in bytes, each for its remaining life.

Only acknowledged answers come in here, and only those written by this process: how old somebody else's is cannot be
told without comparing clocks. ``keyed`` looks here before anything is chosen or written.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cachetools import TLRUCache

from subjects.claims import ClaimRecord

# What an entry takes beside its body, by measurement of a small one.
_OVERHEAD_BYTES = 1500
# An acknowledgement takes less, as nearly always: so much longer than its store this memory may keep an answer.
_SLIGHT_S = 0.1


def _size(record: ClaimRecord) -> int:
    answer = record.answer
    return _OVERHEAD_BYTES + (0 if answer is None else len(answer.body) + len(answer.passed))


class KeptRecords:
    """Records of what is done, the least recently used out first, by caller, capability and key.

    What stands for these three in the store is not needed to find one here, and takes longer than finding it.
    """

    def __init__(self, max_bytes: int, now: Callable[[], float]) -> None:
        self._cache: TLRUCache[tuple[str, str, str], ClaimRecord] = TLRUCache(
            max_bytes, ttu=lambda name, record, at: at + record.window_s, timer=now, getsizeof=_size
        )

    def __len__(self) -> int:
        return len(self._cache)

    def get(self, caller: str, capability: str, key: str) -> ClaimRecord | None:
        """The record, or None."""
        record: ClaimRecord | None = self._cache.get((caller, capability, key))
        return record

    def put(self, record: ClaimRecord, age_s: float = 0.0) -> None:
        """Keep it, if it is not larger than everything that may be kept. It was stored up to ``age_s`` ago."""
        if age_s > _SLIGHT_S:
            record = msgspec.structs.replace(record, window_s=record.window_s - age_s)
        if _size(record) <= self._cache.maxsize:
            self._cache[record.caller, record.capability, record.key] = record
