"""Owns the keys that this controller has to do with: whose each is, which write is under way, who waits for it.

A claim here is one key's entry: what is known of its record, the life that acts under it, and those attached to it.
It decides nothing about a request; ``lives`` hands it the steps of lives, ``router`` the events of the store, and it
resumes whom these concern. What it promises, and why: ``docs/guarantees.md``.
"""

from __future__ import annotations

import msgspec

from controller.core.claim import LOOKS_A_LEASE, Claim, new_nonce, written_for
from controller.core.claim_news import ClaimNews
from controller.core.claim_states import HELD, may
from controller.core.commands import Look, Put
from controller.core.events import FREE, WON, LifeEvent, Lost
from controller.core.stored import ReleaseClaim
from controller.core.world import Life
from subjects.claims import ClaimRecord

# The sweep's own grain: so many a lease.
_SWEEPS_A_LEASE = 15
# Who cannot wait for a lapse is told to come again; the key is kept in sight for so many leases.
_OBSERVED_LEASES = 3
# Keys that nobody here waits for, kept in sight all the same.
_MAX_OBSERVED = 10_000


class Claims(ClaimNews):
    """What lives ask for, a method for each, and the sweep."""

    @property
    def sweep_s(self) -> float:
        """How often ``sweep`` is due."""
        return self.world.limits.lease_s / _SWEEPS_A_LEASE

    def put(self, life: Life, step: Put) -> LifeEvent | None:
        """Write ``step`` for ``life``; what is known at once is returned, else the life is resumed with it."""
        claim = self._entry(life)
        record, holder = claim.record, claim.holder
        if holder is not None and holder is not life:
            return self._held(claim, life) if record is not None else self._wait(claim, life)
        if record is None:
            if holder is None and step.state in HELD and self._refuses:
                return Lost(self._refuses)
            if not may(None, step.state):
                return FREE  # nothing is left that could be called so
        else:
            # Only what the life was told of may be replaced: something else may stand there since.
            if not claim.mine and not (step.over and record.nonce == life.seen):
                return self._held(claim, life)
            if claim.says(step, self.world.now):
                if step.offer is not None:  # stored with the next write: soon enough to say who may have run it
                    claim.record = msgspec.structs.replace(record, worker=step.offer.worker.id)
                return WON
            if not may(record.state, step.state):
                return self._held(claim, life)  # it is not what it was when the life decided
        written = written_for(life, step, record, self.world)
        claim.holder = life
        claim.release = False
        if step.state == "dispatching":
            claim.spent = True
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
            fresh = record is not None and claim.asked and age_s < record.lease_s / LOOKS_A_LEASE
            self._watch(claim)
            if not fresh:  # it may have changed when nobody had been asked to say so, and may not have been read at all
                claim.noticed = claim.reading
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
            due_s = (self.world.limits.lease_s if record is None else record.lease_s) / LOOKS_A_LEASE
            if record is not None and claim.mine and claim.holder is not None:
                if record.state in HELD and now - claim.confirmed_at >= due_s:
                    self._write(claim, msgspec.structs.replace(record, nonce=new_nonce(self.world)))
            elif (claim.attached or claim.observed_until) and now - claim.read_at >= due_s:
                self._read(claim)

    def _unobserve(self, claim: Claim) -> None:
        claim.observed_until = 0.0
        self._observed -= 1
        self._forget(claim)
