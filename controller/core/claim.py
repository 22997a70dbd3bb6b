"""Owns one key's entry in ``claims``, and the record that a life has written under it. It changes nothing by itself."""

from __future__ import annotations

import msgspec

from controller.core.claim_states import HELD
from controller.core.commands import Put
from controller.core.world import Life, World
from subjects.claims import ClaimRecord

# A lease is renewed, and somebody else's looked at, this many times before it lapses.
LOOKS_A_LEASE = 3


class Claim(msgspec.Struct, eq=False):
    """One key. ``record`` and ``seq`` are the last known; times are seconds on the core's clock."""

    key: str
    seq: int = 0
    record: ClaimRecord | None = None
    mine: bool = False
    """Whether the record is this process's own, acknowledged, and not yet seen replaced."""
    confirmed_at: float = 0.0
    """When the write that is acknowledged was handed over: the lease runs from here."""
    out: ClaimRecord | None = None
    """The write under way."""
    out_at: float = 0.0
    following: ClaimRecord | None = None
    """What is written as soon as that one is known."""
    lives: dict[Life, None] = msgspec.field(default_factory=dict)
    """Those that have to do with it; it is forgotten after the last one."""
    holder: Life | None = None
    attached: dict[Life, None] = msgspec.field(default_factory=dict)
    looking: dict[Life, bool] = msgspec.field(default_factory=dict)
    """Those who asked what stands there, and whether old results count."""
    spent: bool = False
    """Whether something may have been dispatched under it."""
    release: bool = False
    """Whether it is to be forgotten as soon as the write under way is known."""
    unchanged_since: float = 0.0
    read_at: float = 0.0
    reading: bool = False
    reads_kept: bool = False
    """Whether old results are looked at as well."""
    noticed: bool = False
    """Whether it changed since the reading that is under way was asked for."""
    asked: bool = False
    """Whether all controllers were asked, with the last reading, to say when nobody holds it any more; one says it."""
    observed_until: float = 0.0

    def lapsed(self, now: float) -> bool:
        """Whether its owner, who is elsewhere, let a whole lease pass."""
        record = self.record
        return (
            record is not None
            and not self.mine
            and record.state in HELD
            and self.read_at - self.unchanged_since >= record.lease_s
            and now - self.read_at <= record.lease_s
        )

    def says(self, step: Put, now: float) -> bool:
        """Whether what is asked for is what stands there already, as this process's own and with half a lease left.

        Past that nothing is done on the strength of it before it is renewed.
        """
        record, offer = self.record, step.offer
        return (
            self.mine
            and record is not None
            and record.state == step.state
            and step.state in HELD
            and not step.over
            # Whether it may be run again is that of the worker that has it.
            and not (record.idempotent and offer is not None and not offer.spec.idempotent)
            and now - self.confirmed_at < record.lease_s / 2
        )


def written_for(life: Life, step: Put, stands: ClaimRecord | None, world: World) -> ClaimRecord:
    """The record that ``step`` asks for, over what ``stands`` there."""
    request, offer = life.request, step.offer
    nonce, again = new_nonce(world), step.state == "dispatching"
    job = request.action in ("submit", "job", "retry")
    if stands is None:
        return ClaimRecord(  # by position, which takes a sixth of the time
            step.state,
            nonce,
            world.owner,
            request.caller,
            request.capability,
            life.key,
            life.fingerprint,
            request.request_id,
            world.limits.lease_s,
            world.limits.window_s,
            offer is not None and offer.spec.idempotent,
            int(again),
            offer.worker.id if offer is not None else "",
            step.answer,
            job,
            step.published,
            step.reason,
            nonce if job else "",
        )
    begins = job and (not stands.job or stands.state == "dead")
    return msgspec.structs.replace(
        stands,
        state=step.state,
        nonce=nonce,
        # Whoever called it unknown is not the one who may still know.
        owner=stands.owner if step.state == "unknown" else world.owner,
        request_id=request.request_id if request.action == "request" else stands.request_id,
        lease_s=world.limits.lease_s,
        idempotent=offer.spec.idempotent if offer is not None else stands.idempotent,
        attempts=_attempts(life, step, stands, world),
        worker=offer.worker.id if offer is not None else stands.worker,
        answer=step.answer,
        job=stands.job or job,
        published=step.published or (stands.published and request.action != "retry"),
        reason=step.reason,
        message=nonce if begins else stands.message,
    )


def _attempts(life: Life, step: Put, stands: ClaimRecord, world: World) -> int:
    if life.request.action == "retry":
        return 0
    # What did not run does not count, and what somebody else sent may have run.
    unused = stands.state == "dispatching" and stands.owner == world.owner and not life.executed
    if step.state == "dispatching":
        return stands.attempts + (not unused)
    return stands.attempts - (step.state == "waiting" and unused)


def new_nonce(world: World) -> str:
    """What tells one write from every other one: the process, and its number there."""
    return f"{world.boot}{next(world.writes)}"
