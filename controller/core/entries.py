"""Owns the entries of keys in ``claims``: writing, reading and watching one, and telling those who wait for it.

One write a key is under way at a time. ``claim_news`` builds on this with what the store says, ``claims`` with what
lives ask for.
"""

from __future__ import annotations

from collections.abc import Callable

from controller.core.claim import Claim
from controller.core.commands import Command
from controller.core.events import FREE, Held, LifeEvent
from controller.core.stored import ReadClaim, UnwatchClaim, WatchClaim, WriteClaim
from controller.core.world import Life, World
from subjects.claims import FINAL, ClaimRecord


class Entries(dict[str, Claim]):
    """The claims in use, by key. ``resume`` gives a life what came of its step."""

    def __init__(
        self, world: World, emit: Callable[[Command], None], resume: Callable[[Life, LifeEvent], None]
    ) -> None:
        super().__init__()
        self.world = world
        self.watched: dict[str, None] = {}
        """Keys whose changes elsewhere matter here."""
        self._emit = emit
        self._resume = resume
        self._refuses = ""
        self._observed = 0

    def _entry(self, life: Life) -> Claim:
        key = life.claim_key
        claim = self.get(key)
        if claim is None:
            claim = self[key] = Claim(key)
        claim.lives[life] = None
        # Whatever it waited for, it asks for something else now.
        if claim.attached:
            claim.attached.pop(life, None)
        if claim.looking:
            claim.looking.pop(life, None)
        return claim

    def _write(self, claim: Claim, record: ClaimRecord) -> None:
        claim.out, claim.out_at = record, self.world.now
        # Only what nothing changes any more ages out: a claim that did so while work runs would let it run twice.
        ttl_s = int(record.window_s) if record.state in FINAL else None
        self._emit(WriteClaim(claim.key, record, claim.seq, ttl_s))

    def _watch(self, claim: Claim) -> None:
        if claim.key not in self.watched:
            self.watched[claim.key] = None
            self._emit(WatchClaim(claim.key))

    def _read(self, claim: Claim, *, kept: bool = False) -> None:
        if not claim.reading:
            claim.reading, claim.reads_kept, claim.asked = True, kept, claim.key in self.watched
            self._emit(ReadClaim(claim.key, kept))

    def _changed(self, claim: Claim) -> None:
        """Those who are attached see what stands there now; each may act, and the next one sees what came of it."""
        for life in list(claim.attached):
            if claim.record is None and claim.out is not None:
                return  # one of them has begun to write
            if life in claim.attached:
                del claim.attached[life]
                self._resume(life, self._known(claim, life))

    def _known(self, claim: Claim, life: Life) -> LifeEvent:
        return FREE if claim.record is None else self._held(claim, life)

    def _held(self, claim: Claim, life: Life) -> Held:
        record = claim.record
        assert record is not None
        life.seen = record.nonce
        return Held(record, claim.holder is None and claim.lapsed(self.world.now))

    def _wait(self, claim: Claim, life: Life) -> LifeEvent | None:
        """What is being written may never stand: until it does, or does not, nobody is told of it."""
        claim.attached[life] = None
        return None

    def _forget(self, claim: Claim) -> None:
        """Forget what nobody here has to do with any more."""
        if claim.lives or claim.out is not None or claim.reading or claim.observed_until:
            return
        if self.get(claim.key) is claim:
            del self[claim.key]
            if claim.key in self.watched:
                del self.watched[claim.key]
                self._emit(UnwatchClaim(claim.key))
