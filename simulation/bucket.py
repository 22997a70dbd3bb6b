"""Owns the bucket of claims as its leader has it: the last message of every key, and compare-and-set by its sequence.

What it stores is shown to a ``Witness`` first. ``claims_log`` puts the network between it and a controller.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from simulation.clock import Clock
from subjects.claims import ClaimRecord

# Shorter than the real ones, so that both run out within a run.
LEASE_S, WINDOW_S = 4.0, 40.0
# A release leaves a message behind for so long: a delete that ages out as well.
_TOMBSTONE_S = 60.0
# So much further on a bucket that was lost begins anew: else its small numbers would be taken for those before, which
# the large ones of a real one are not.
_FURTHER = 1_000_000


class Entry(NamedTuple):
    """A key's last message; no record where it was released. ``until`` is when it ages out, by the world's clock."""

    seq: int
    record: ClaimRecord | None
    until: float


NOTHING = Entry(0, None, 0.0)
_NEVER = float("inf")


class Witness(Protocol):
    """Who sees every change; a law that it finds broken ends the run."""

    def wrote(self, key: str, before: Entry, after: Entry) -> None:
        """A message was stored."""
        ...

    def emptied(self) -> None:
        """Everything was lost."""
        ...


class Bucket:
    """Of one world."""

    def __init__(self, clock: Clock, witness: Witness) -> None:
        self.away = False
        """Whether it answers nobody."""
        self.full = ""
        """Why it takes nothing more; "" when it does."""
        self._clock = clock
        self._witness = witness
        self._entries: dict[str, Entry] = {}
        self._seq = 0

    def get(self, key: str) -> Entry:
        """A key's last message, if it has not aged out."""
        entry = self._entries.get(key)
        if entry is None:
            return NOTHING
        if entry.until <= self._clock.now:
            del self._entries[key]
            return NOTHING
        return entry

    def records(self) -> dict[str, ClaimRecord]:
        """All that is there, in the order in which it was written first."""
        entries = ((key, self.get(key).record) for key in list(self._entries))
        return {key: record for key, record in entries if record is not None}

    def write(self, key: str, record: ClaimRecord | None, expected_seq: int, ttl_s: float | None) -> int | None:
        """Store a record, or a release, if the key's last sequence is still that; returns the new one, or None."""
        before = self.get(key)
        if before.seq != expected_seq:
            return None
        self._seq += 1
        ttl_s = _TOMBSTONE_S if record is None else ttl_s
        after = Entry(self._seq, record, _NEVER if ttl_s is None else self._clock.now + ttl_s)
        self._entries[key] = after
        self._witness.wrote(key, before, after)
        return self._seq

    def replace(self) -> None:
        """Be lost, and begin anew."""
        self._entries.clear()
        self._seq += _FURTHER
        self._witness.emptied()
