"""Owns the keys that this controller has to do with: whose each is, which write is under way, who waits for it.

A claim here is one key's entry: what is known of its record, the life that acts under it, and those attached to it.
One write a key is under way at a time. It decides nothing about a request; ``router`` hands it the steps of lives and
the events of the store, and is told whom to resume. What it promises, and why: ``docs/guarantees.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from controller.core.claim import Claim, new_nonce, written_for
from controller.core.claim_states import FREE as NOTHING
from controller.core.claim_states import HELD, may
from controller.core.commands import Command, Follow, Forward, Linger, Look, Put, Send, Wait
from controller.core.events import FREE, UNSURE, WON, Held, LifeEvent, Lost
from controller.core.stored import (
    ClaimFailed,
    ClaimNoticed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ClaimUnanswered,
    ClaimUnread,
    ExtendJob,
    ReadClaim,
    ReleaseClaim,
    StoreLevel,
    UnwatchClaim,
    WatchClaim,
    WriteClaim,
)
from controller.core.world import Life, World
from subjects.claims import FINAL, ClaimRecord

# A lease is renewed, and somebody else's looked at, this many times before it lapses.
_LOOKS_A_LEASE = 3
# The sweep's own grain, in the same measure.
_SWEEPS_A_LEASE = 15
# Who cannot wait for a lapse is told to come again; the key is kept in sight for so many leases.
_OBSERVED_LEASES = 3
# Keys that nobody here waits for, kept in sight all the same.
_MAX_OBSERVED = 10_000
# What a life that holds a key may be waiting for: what comes of its write, or what a worker does.
_WRITES = (Put, Linger)
_WAITS = (Wait, Send, Forward, Follow)


class Claims(dict[str, Claim]):
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

    @property
    def sweep_s(self) -> float:
        """How often ``sweep`` is due."""
        return self.world.limits.lease_s / _SWEEPS_A_LEASE

    # What lives ask for ---------------------------------------------------------------

    def put(self, life: Life, step: Put) -> LifeEvent | None:
        """Write ``step`` for ``life``; what is known at once is returned, else the life is resumed with it."""
        claim, now = self._entry(life), self.world.now
        if claim.holder is not None and claim.holder is not life:
            return self._held(claim, life) if claim.record is not None else self._wait(claim, life)
        if claim.record is None and claim.holder is None and step.state in HELD and self._refuses:
            return Lost(self._refuses)
        # Only what the life was told of may be replaced: something else may stand there since.
        over = step.over and claim.record is not None and claim.record.nonce == life.seen
        if claim.record is not None and not claim.mine and not over:
            return self._held(claim, life)
        record = claim.record
        if (
            claim.mine
            and record is not None
            and record.state == step.state
            and step.state in HELD
            and not step.over
            # Whether it may be run again is that of the worker that has it.
            and not (record.idempotent and step.offer is not None and not step.offer.spec.idempotent)
            # Past half a lease nothing is done on the strength of it before it is renewed.
            and now - claim.confirmed_at < record.lease_s / 2
        ):
            if step.offer is not None:  # stored with the next write, which is soon enough to say who may have run it
                claim.record = msgspec.structs.replace(record, worker=step.offer.worker.id)
            self._spend(claim, step)
            return WON
        if record is not None and not may(record.state, step.state):
            return self._held(claim, life)  # it is not what it was when the life decided
        if record is None and not may(NOTHING, step.state):
            return FREE  # nothing is left that could be called so
        written = written_for(life, step, record, self.world)
        claim.holder = life
        claim.release = False
        self._spend(claim, step)
        if claim.out is None:
            self._write(claim, written)
        else:
            claim.following = written
        return None

    def attach(self, life: Life) -> LifeEvent | None:
        """Let ``life`` wait for a change."""
        claim = self._entry(life)
        if claim.holder is None and claim.out is None:
            record, age_s = claim.record, self.world.now - claim.read_at
            fresh = record is not None and claim.key in self.watched and age_s < record.lease_s / _LOOKS_A_LEASE
            self._watch(claim)
            if not fresh:  # it may have changed while nobody here listened, and may not have been read at all
                self._read(claim)
        claim.attached[life] = None
        return None

    def linger(self, life: Life) -> LifeEvent | None:
        """Wait for the write that this life has under way."""
        claim = self._entry(life)
        if claim.holder is life and claim.out is not None:
            return None
        return Lost("nothing is being written")

    def look(self, life: Life, step: Look) -> LifeEvent | None:
        """Read what stands there for ``life``."""
        claim = self._entry(life)
        if claim.holder is not None or claim.mine:
            return self._held(claim, life) if claim.record is not None else self._wait(claim, life)
        claim.looking[life] = step.kept
        self._read(claim, kept=step.kept)
        return None

    def _wait(self, claim: Claim, life: Life) -> LifeEvent | None:
        """What is being written may never stand: until it does, or does not, nobody is told of it."""
        claim.attached[life] = None
        return None

    def observe(self, life: Life) -> None:
        """Keep the key in sight, so that a lapse is known to whoever comes next."""
        claim = self._entry(life)
        if not claim.observed_until:
            if self._observed >= _MAX_OBSERVED:
                return
            self._observed += 1
        claim.observed_until = self.world.now + _OBSERVED_LEASES * self.world.limits.lease_s
        self._watch(claim)

    def release(self, life: Life) -> None:
        """Forget the key, which this life holds or was allowed to replace; those who wait for it try for themselves."""
        claim = self._entry(life)
        written = claim.out if claim.out is not None else claim.record
        ours = claim.holder is life and written is not None and written.state in HELD
        free = claim.holder is None and claim.out is None
        if not ours and not (life.over and free and claim.record is not None and claim.record.nonce == life.seen):
            return
        claim.holder = claim.following = None
        assert written is not None
        if written.job and life.request.action == "request":
            self._put_back(claim, written, life)  # it may be in its stream: the record is that job's
            return
        if claim.out is not None:
            claim.release = True  # under which sequence is not known yet
            return
        if claim.record is not None:
            self._emit(ReleaseClaim(claim.key, claim.seq))
        claim.record, claim.mine, claim.spent = None, False, False
        self._changed(claim)

    def _put_back(self, claim: Claim, written: ClaimRecord, life: Life) -> None:
        claim.mine = False
        if written.state != "waiting":
            waiting = written_for(life, Put("waiting"), written, self.world)
            if claim.out is None:
                self._write(claim, waiting)
            else:
                claim.following = waiting

    def leave(self, life: Life) -> None:
        """The life has ended."""
        claim = self.get(life.claim_key)
        if claim is None:
            return
        claim.lives.pop(life, None)
        claim.attached.pop(life, None)
        claim.looking.pop(life, None)
        if claim.holder is life:
            claim.holder = None
            # A job's may be in its stream by now, put there by whoever submitted it again.
            if claim.out is not None and claim.record is None and not claim.spent and not claim.out.job:
                claim.following, claim.release = None, True
            # Whoever waits for it here watches it from now on as they would somebody else's.
            claim.mine = False
            claim.unchanged_since = claim.read_at = self.world.now
            if claim.attached:
                self._watch(claim)
                if claim.out is None:
                    self._changed(claim)
        self._forget(claim)

    # What the store says --------------------------------------------------------------

    def stored(self, event: ClaimStored) -> None:
        """A write is acknowledged."""
        claim = self._under_way(event.key, event.nonce)
        if claim is None:
            return
        assert claim.out is not None
        created = claim.record is None
        claim.seq, claim.record, claim.mine, claim.out = event.seq, claim.out, claim.holder is not None, None
        claim.confirmed_at = claim.unchanged_since = claim.read_at = claim.out_at
        if claim.record.state == "done":
            self.world.kept.put(claim.record, self.world.now - claim.out_at)
        if claim.release:
            claim.release = False
            self._emit(ReleaseClaim(claim.key, claim.seq))
            claim.record, claim.mine = None, False
            self._changed(claim)
            self._forget(claim)
            return
        if claim.following is not None:
            written, claim.following = claim.following, None
            self._write(claim, written)
            if created:
                self._changed(claim)
            return
        holder, record = claim.holder, claim.record
        if holder is not None and record.state in HELD and self.world.now - claim.confirmed_at >= record.lease_s / 2:
            # It was under way for so long that somebody may have called it over.
            self._write(claim, msgspec.structs.replace(record, nonce=new_nonce(self.world)))
            if created:
                self._changed(claim)
            return
        if holder is not None:
            if holder.delivery and claim.record.state == "dispatching":
                self._emit(ExtendJob(holder.delivery))
            if isinstance(holder.asked, _WRITES):
                self._resume(holder, WON)
        if created or (claim.record is not None and claim.record.state not in HELD):
            self._changed(claim)
        self._forget(claim)

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
        """Something was stored under the key."""
        claim = self.get(event.key)
        if claim is not None and not claim.mine and claim.out is None:
            claim.noticed = claim.reading
            self._read(claim)

    def level(self, event: StoreLevel) -> None:
        """How full the store is."""
        self._refuses = event.refuses

    # Time -----------------------------------------------------------------------------

    def stood_still(self) -> None:
        """Whoever stood still saw nothing of others meanwhile."""
        for claim in self.values():
            claim.unchanged_since = self.world.now

    def sweep(self) -> None:
        """Renew leases that are due, and look at those of others that somebody here waits for."""
        now = self.world.now
        for claim in list(self.values()):
            record = claim.record
            if claim.observed_until and now >= claim.observed_until:
                self._unobserve(claim)
            if claim.out is not None:
                continue
            due_s = (self.world.limits.lease_s if record is None else record.lease_s) / _LOOKS_A_LEASE
            if record is not None and claim.mine and claim.holder is not None:
                if record.state in HELD and now - claim.confirmed_at >= due_s:
                    self._write(claim, msgspec.structs.replace(record, nonce=new_nonce(self.world)))
            elif (claim.attached or claim.observed_until) and now - claim.read_at >= due_s:
                self._read(claim)

    # Inside ---------------------------------------------------------------------------

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

    def _spend(self, claim: Claim, step: Put) -> None:
        if step.state == "dispatching":
            claim.spent = True

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
            claim.reading, claim.reads_kept = True, kept
            self._emit(ReadClaim(claim.key, kept))

    def _learn(self, claim: Claim, record: ClaimRecord | None, seq: int, *, tell: bool = True) -> None:
        """What stands there, by a write that was refused or by reading."""
        now = self.world.now
        changed = seq != claim.seq or (record is None) != (claim.record is None)
        gap_s = now - claim.read_at
        claim.seq, claim.record, claim.mine = seq, record, False
        # An owner that could not be looked at for a while may have been as cut off as whoever looks.
        if changed or record is None or gap_s > record.lease_s * 2 / _LOOKS_A_LEASE:
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

    def _changed(self, claim: Claim) -> None:
        """Those who are attached see what stands there now; each may act, and the next one sees what came of it."""
        if not claim.attached:
            return
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

    def _under_way(self, key: str, nonce: str) -> Claim | None:
        claim = self.get(key)
        return claim if claim is not None and claim.out is not None and claim.out.nonce == nonce else None

    def _unobserve(self, claim: Claim) -> None:
        claim.observed_until = 0.0
        self._observed -= 1
        self._forget(claim)

    def _forget(self, claim: Claim) -> None:
        """Forget what nobody here has to do with any more."""
        if claim.lives or claim.out is not None or claim.reading or claim.observed_until:
            return
        if self.get(claim.key) is claim:
            del self[claim.key]
            if claim.key in self.watched:
                del self.watched[claim.key]
                self._emit(UnwatchClaim(claim.key))
