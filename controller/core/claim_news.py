"""Owns what the store says of keys: writes acknowledged, refused or failed, records read, notices of changes.

What is known of a key changes here, and those who wait for it are resumed. What a life asks for is in ``claims``.
"""

from __future__ import annotations

import msgspec

from controller.core.claim import LOOKS_A_LEASE, Claim, new_nonce
from controller.core.claim_states import HELD
from controller.core.commands import Follow, Forward, Linger, Put, Send, Wait
from controller.core.entries import Entries
from controller.core.events import UNSURE, WON, Held, Lost
from controller.core.stored import (
    ClaimFailed,
    ClaimNoticed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ClaimUnanswered,
    ClaimUnread,
    ExtendJob,
    ReleaseClaim,
    StoreLevel,
)
from subjects.claims import FINAL, ClaimRecord

# What a life that holds a key may be waiting for: what comes of its write, or what a worker does.
_WRITES = (Put, Linger)
_WAITS = (Wait, Send, Forward, Follow)


class ClaimNews(Entries):
    """Takes in the store's events; a method for each."""

    def stored(self, event: ClaimStored) -> None:
        """A write is acknowledged."""
        claim = self.get(event.key)
        if claim is None or (record := claim.out) is None or record.nonce != event.nonce:
            return
        holder, created = claim.holder, claim.record is None
        claim.seq, claim.record, claim.mine, claim.out = event.seq, record, holder is not None, None
        claim.confirmed_at = claim.unchanged_since = claim.read_at = claim.out_at
        held = record.state in HELD
        if record.state == "done":
            self.world.kept.put(record, self.world.now - claim.out_at)
        if claim.release:
            claim.release = False
            self._emit(ReleaseClaim(claim.key, claim.seq))
            claim.record, claim.mine = None, False
            self._changed(claim)
            self._forget(claim)
            return
        following = claim.following
        if following is None and holder is not None and held and self._took_long(claim, record):
            following = msgspec.structs.replace(record, nonce=new_nonce(self.world))
        if following is not None:
            claim.following = None
            self._write(claim, following)
            if created:
                self._changed(claim)
            return
        if holder is not None:
            if holder.delivery and record.state == "dispatching":
                self._emit(ExtendJob(holder.delivery))
            if isinstance(holder.asked, _WRITES):
                self._resume(holder, WON)
        if claim.attached and (created or (claim.record is not None and claim.record.state not in HELD)):
            self._changed(claim)
        self._forget(claim)

    def _took_long(self, claim: Claim, record: ClaimRecord) -> bool:
        """Whether its write was under way for so long that somebody may have called it over."""
        return self.world.now - claim.confirmed_at >= record.lease_s / 2

    def refused(self, event: ClaimRefused) -> None:
        """Somebody else's record stands, or none: nothing of ours holds any more."""
        claim = self._under_way(event.key, event.nonce)
        if claim is None:
            return
        again = claim.following
        claim.out = claim.following = None
        claim.release = False
        self._learn(claim, event.record, event.seq, tell=False)
        holder, claim.holder = claim.holder, None
        if holder is not None:
            asks = again is not None or isinstance(holder.asked, _WRITES)
            # Whoever waits for a worker, or follows one, is told when there is an answer already.
            over = claim.record is not None and claim.record.state in FINAL and claim.holder is None
            if asks or (over and isinstance(holder.asked, _WAITS)):
                self._resume(holder, self._known(claim, holder))
        self._changed(claim)
        self._forget(claim)

    def failed(self, event: ClaimFailed) -> None:
        """Nothing was stored. A renewal is tried again; whoever asked for more is told."""
        claim = self._under_way(event.key, event.nonce)
        if claim is None:
            return
        claim.out = claim.following = None
        holder = claim.holder
        if holder is not None and isinstance(holder.asked, _WRITES):
            if not claim.mine:
                claim.holder = None
            self._resume(holder, Lost(event.reason))
        if claim.release:
            claim.release = False
            if claim.record is not None:
                self._emit(ReleaseClaim(claim.key, claim.seq))
                claim.record, claim.mine = None, False
        if claim.holder is None and claim.out is None:
            self._changed(claim)
        self._forget(claim)

    def unanswered(self, event: ClaimUnanswered) -> None:
        """Nobody knows yet."""
        claim = self._under_way(event.key, event.nonce)
        if claim is not None and claim.holder is not None and isinstance(claim.holder.asked, Put):
            self._resume(claim.holder, UNSURE)

    def read(self, event: ClaimRead) -> None:
        """The record as its leader has it."""
        claim = self.get(event.key)
        if claim is None:
            return
        claim.reading = False
        # Who asked for old results too, while only the key was read, asks again.
        looking = [life for life, kept in claim.looking.items() if not kept or claim.reads_kept or event.record]
        for life in looking:
            del claim.looking[life]
        if claim.looking:
            self._read(claim, kept=True)
        if claim.out is None and not claim.mine:
            self._learn(claim, event.record if event.seq else None, event.seq)
            if event.record is not None and event.seq == 0:
                for life in looking:  # a result that was kept longer than its claim
                    self._resume(life, Held(event.record))
                looking = []
        for life in looking:
            if claim.record is None and claim.out is not None:
                self._wait(claim, life)
            else:
                self._resume(life, self._known(claim, life))
        self._forget(claim)

    def unread(self, event: ClaimUnread) -> None:
        """Nothing is known: whoever owns it could not renew it either."""
        claim = self.get(event.key)
        if claim is None:
            return
        claim.reading = False
        claim.unchanged_since = claim.read_at = self.world.now
        looking = list(claim.looking)
        claim.looking.clear()
        for life in looking:
            self._resume(life, Lost(event.reason))
        self._forget(claim)

    def notice(self, event: ClaimNoticed) -> None:
        """Another controller says that nobody holds the key any more."""
        claim = self.get(event.key)
        if claim is None:
            return
        claim.asked = False
        if not claim.mine and claim.out is None:
            claim.noticed = claim.reading
            self._read(claim)

    def level(self, event: StoreLevel) -> None:
        """How full the store is."""
        self._refuses = event.refuses

    def _under_way(self, key: str, nonce: str) -> Claim | None:
        claim = self.get(key)
        return claim if claim is not None and claim.out is not None and claim.out.nonce == nonce else None

    def _learn(self, claim: Claim, record: ClaimRecord | None, seq: int, *, tell: bool = True) -> None:
        """What stands there, by a write that was refused or by reading."""
        now = self.world.now
        changed = seq != claim.seq or (record is None) != (claim.record is None)
        gap_s = now - claim.read_at
        claim.seq, claim.record, claim.mine = seq, record, False
        # An owner that could not be looked at for a while may have been as cut off as whoever looks.
        if changed or record is None or gap_s > record.lease_s * 2 / LOOKS_A_LEASE:
            claim.unchanged_since = now
        claim.read_at = now
        if claim.noticed:
            claim.noticed = False
            self._read(claim)
        if not tell or claim.holder is not None:
            return
        if changed or record is None:
            self._changed(claim)
        elif claim.lapsed(now) and claim.attached:
            first = next(iter(claim.attached))
            del claim.attached[first]
            self._resume(first, self._held(claim, first))
