"""Owns how a life comes to hold its key, or gets what somebody else's request under it came to.

``dispatching`` secures the claim before it waits and before it sends; ``keyed`` stores the answer.
"""

from __future__ import annotations

from collections.abc import Generator

from controller.core import claim_refusals, refusals
from controller.core.commands import Attach, Linger, Look, Observe, Put, Reply, Step
from controller.core.events import Free, GivenUp, Held, LifeEvent, Lost, Unsure, Won
from controller.core.fleet import Offer
from controller.core.world import Kept, Life, Outcome, Silent, World
from subjects.claims import ClaimRecord, ClaimState
from subjects.errors import Refusal

ATTACH, LINGER, LOOK, OBSERVE = Attach(), Linger(), Look(), Observe()


class Again:
    """Choose a worker again. ``last`` is the error to end with if there is no other."""

    def __init__(self, last: Refusal | None = None) -> None:
        self.last = last


AGAIN = Again()
Secured = Generator[Step, LifeEvent | None, Outcome | Again | Held | None]


def secure(life: Life, world: World, state: ClaimState, offer: Offer | None = None) -> Secured:
    """Have the claim say ``state``: None when it does and is ours, ``Again``, or how the request ends instead."""
    event = yield Put(state, offer, over=life.over)
    life.over = False
    match event:
        case Won():
            life.known = True
            return AGAIN if offer is not None and not (life.flight is not None and world.serves(offer)) else None
        case Free():
            return AGAIN
        case Held():
            return (yield from found(life, world, event))
        case Lost(reason):
            # A store that takes nothing new may still know this key.
            ended = None if life.known else (yield from standing(life, world))
            return claim_refusals.unprotected(life, reason) if ended is None else ended
        case Unsure():
            refusal = claim_refusals.unprotected(life, "JetStream does not acknowledge the claim")
        case _:
            refusal = refusals.interrupted(event, life, world, "claiming the key")
            if isinstance(event, GivenUp):
                return refusal
    yield Reply(refusal)
    yield LINGER  # whatever comes of it, nothing ran; what is ours is released
    return Silent("the claim was not acknowledged in time")


def standing(life: Life, world: World) -> Secured:
    """What a request gets by what stands under its key, where it can go no further itself; None: nothing does."""
    life.known = True
    event = yield LOOK
    match event:
        case Held():
            return (yield from found(life, world, event))
        case Free():
            return None
        case Lost(reason):
            return claim_refusals.unprotected(life, reason)
        case _:
            return refusals.interrupted(event, life, world, "reading what stands under the key")


def found(life: Life, world: World, held: Held) -> Secured:
    """What a request gets where its key is somebody else's; ``Again`` when it may try for itself.

    A job looks again by itself, so it is handed what was found.
    """
    if life.request.action == "job":
        return held
    while True:
        record = held.record
        if record.fingerprint != life.fingerprint:
            return (claim_refusals.displaced if life.executed else claim_refusals.key_reused)(life.request)
        life.earlier = record.state != "waiting" or record.attempts > 0
        if record.answer is not None and record.state in ("done", "dead"):
            return Kept(record.answer)
        if record.state not in ("waiting", "dispatching"):
            return claim_refusals.ended_without_answer(record)
        # A job in its stream is renewed by nobody; its next delivery sees to it. One that never came there is nobody's.
        if held.lapsed and (not record.job or (record.state == "waiting" and not record.published)):
            life.over = True
            if record.state == "waiting" or record.idempotent:
                return AGAIN
            event = yield from _call_unknown(life, record)
            if event is None:
                return claim_refusals.ended_without_answer(record)
        elif life.request.headers.on_duplicate == "reject" and not life.executed:
            yield OBSERVE
            return claim_refusals.in_progress(record)
        elif world.crowded and not life.executed:
            return claim_refusals.crowded(life)
        else:
            event = yield ATTACH
        match event:
            case Held():
                held = event
            case Free():
                life.earlier = False
                return AGAIN
            case Lost(reason):
                return claim_refusals.unprotected(life, reason)
            case _:
                yield OBSERVE  # whoever asks again has not to watch it for a whole lease anew
                return refusals.interrupted(event, life, world, "waiting for the first request with this key")


def _call_unknown(life: Life, record: ClaimRecord) -> Generator[Step, LifeEvent | None, LifeEvent | None]:
    """Nobody can say what became of it: None once the record says so, else what happened instead."""
    event = yield Put("unknown", over=True, reason="worker_lost", answer=record.answer)
    life.over = False
    if isinstance(event, Unsure):
        event = yield LINGER
    return None if isinstance(event, Won) else event
