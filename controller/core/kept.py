"""Owns the answers that are kept in memory, in front of the store: bounded in bytes, each for its remaining life.

Only acknowledged answers come in here, and only those written by this process: how old somebody else's is cannot be
told without comparing clocks. ``keyed`` looks here before anything is chosen or written.
"""

from __future__ import annotations

from collections.abc import Callable

from subjects.claims import ClaimRecord, StoredAnswer

# What an entry takes beside its body, by measurement of a small one.
_OVERHEAD_BYTES = 1200


def size_of(answer: StoredAnswer | None) -> int:
    """What a record with this answer takes in memory, in bytes."""
    return _OVERHEAD_BYTES + (0 if answer is None else len(answer.body) + len(answer.passed))


_Key = tuple[str, str, str]
_Kept = tuple[ClaimRecord, float, int]
"""A record, until when it is good, and its size in bytes."""


class KeptRecords:
    """Records of what is done, by caller, capability and key: those used lately, in two generations.

    Each generation is a dictionary, and holds half of the bytes at most. What is put or used goes to the young one;
    when that is full it becomes the old one, and what was old is forgotten. Every keyed request comes in here, and a
    list in the order of use would take five times as long (cachetools: 3 of the 58 µs that a keyed request takes). What
    stands for the three names in the store is not needed to find a record here, and takes longer than finding it.
    """

    def __init__(self, max_bytes: int, now: Callable[[], float]) -> None:
        self._room = max_bytes // 2
        self._now = now
        self._young: dict[_Key, _Kept] = {}
        self._old: dict[_Key, _Kept] = {}
        self._young_bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, caller: str, capability: str, key: str) -> ClaimRecord | None:
        """The record, or None."""
        names = caller, capability, key
        kept = self._young.get(names)
        if kept is None:
            kept = self._old.pop(names, None)
            if kept is None or self._now() >= kept[1]:
                return None
            record = kept[0]
            self._keep((record.caller, record.capability, record.key), kept)
            return record
        record, until, size = kept
        if self._now() < until:
            return record
        del self._young[names]
        self._young_bytes -= size
        return None

    def put(self, record: ClaimRecord, age_s: float = 0.0) -> None:
        """Keep it, if it is not larger than a generation. It was stored up to ``age_s`` ago."""
        names = record.caller, record.capability, record.key
        earlier = self._young.pop(names, None)
        if earlier is not None:
            self._young_bytes -= earlier[2]
        elif names in self._old:
            del self._old[names]
        size = size_of(record.answer)
        if size <= self._room:
            self._keep(names, (record, self._now() + record.window_s - age_s, size))

    def _keep(self, names: _Key, kept: _Kept) -> None:
        size = kept[2]
        if self._young_bytes + size > self._room:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young[names] = kept
        self._young_bytes += size
