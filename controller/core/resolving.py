"""Owns settling a request whose outcome is unknown, because an operator says what became of it."""

from __future__ import annotations

import msgspec

from controller.core import claim_refusals, refusals
from controller.core.claim_states import HELD
from controller.core.commands import Ask, Look, Observe, Pause, Put, Release
from controller.core.events import DeadlinePassed, Free, Held, Lost, VerdictReached, Won
from controller.core.world import Life, Steps, Told, World
from subjects.tokens import CapabilityId

_LOOK_AGAIN_S = 0.05


def resolve(life: Life, world: World) -> Steps:
    """Store the answer that the operator gives, or forget the key."""
    event = yield Look()
    if isinstance(event, Held):
        # Whether an operator may is a question about what the claim is of, and not about what they say that it is.
        life.request = msgspec.structs.replace(life.request, capability=CapabilityId(event.record.capability))
    if not isinstance(event, Held | Free | Lost):
        return claim_refusals.unreadable("the store does not answer")
    asked = yield Ask()
    if not isinstance(asked, VerdictReached):
        return refusals.interrupted(asked, life, world, "waiting for the policy engine")
    life.verdict = asked.verdict
    if not asked.verdict.allow:
        return refusals.denied(life.request, asked.verdict)
    if isinstance(event, Lost):
        return claim_refusals.unreadable(event.reason)
    if isinstance(event, Free):
        return claim_refusals.nothing_known(life.claim_key)
    record = event.record
    if record.state in ("waiting", "dispatching") and not event.lapsed:
        yield Observe()
        return claim_refusals.still_leased(record)
    if record.state not in ("unknown", "waiting", "dispatching") or record.job:
        return claim_refusals.settled(life.claim_key, record.state)
    if record.state == "waiting" and life.given is not None:
        return claim_refusals.never_ran(life.claim_key)
    life.over = True
    if life.given is not None:
        if record.state != "unknown":
            event = yield Put("unknown", over=True)
            if not isinstance(event, Won):
                return claim_refusals.unreadable("somebody else wrote meanwhile")
        event = yield Put("done", over=True, answer=life.given)
        if not isinstance(event, Won):
            return claim_refusals.unreadable("somebody else wrote meanwhile, or the store does not answer")
        return Told({"resolved": [{"job_id": life.claim_key, "state": "done"}]})
    yield Release()
    while isinstance(event, Held) and event.record.nonce == record.nonce:
        event = yield Pause(_LOOK_AGAIN_S)
        if isinstance(event, DeadlinePassed):
            return claim_refusals.unreadable("the store does not answer")
        event = yield Look()
    # Nothing but a release has an unknown outcome followed by a new claim.
    anew = isinstance(event, Held) and record.state == "unknown" and event.record.state in HELD
    if not isinstance(event, Free) and not anew:
        return claim_refusals.unreadable("the store does not answer")
    warning = "The first attempt may still be running: whoever uses the key again may have it done twice."
    return Told({"resolved": [{"job_id": life.claim_key, "state": "released", "warning": warning}]})
