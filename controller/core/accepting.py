"""Owns how a job comes into its stream: submitted by a caller, or dead and tried again because an operator says so.

Its record is written first, and marked when its message is stored: whoever dies in between leaves what the next one
who asks goes on from. What becomes of it then stands in ``jobs``.
"""

from __future__ import annotations

from collections.abc import Generator

from controller.core import claim_refusals, refusals
from controller.core.commands import Put, Reply, Step, Store, Tell
from controller.core.events import Free, GivenUp, Held, LifeEvent, Lost, Unsure, Won
from controller.core.front import front, limited
from controller.core.keyed import RELEASE
from controller.core.securing import LINGER, LOOK, Again, found
from controller.core.stored import Appended, AppendJob, DropDead
from controller.core.world import Kept, Life, Outcome, Silent, Steps, Told, World
from subjects.claims import FINAL, ClaimRecord
from subjects.errors import Refusal


def submit(life: Life, world: World) -> Steps:
    """Accept a request durably, once: record, message, mark, and only then the reply."""
    refusal = limited(life, world) or (yield from front(life, world))
    if refusal is not None:
        return refusal
    key = life.request.headers.idempotency_key
    life.claims(key if key is not None else world.chance.randbytes(16).hex())
    while True:
        event = yield Put("waiting", over=life.over)
        life.over = False
        if isinstance(event, Lost):
            reason = event.reason
            event = yield LOOK  # a store that takes nothing new may know this job
            if not isinstance(event, Held):
                return claim_refusals.not_accepted(reason)
        match event:
            case Won():
                event = yield LOOK
                assert isinstance(event, Held)
                ended = yield from _publish(life, event.record, duplicate=False)
                if ended is not None:
                    return ended
                continue
            case Held(record) if not record.job and record.state not in FINAL:
                # What a request comes to decides: its answer is the job's, or its key is free for the job.
                met = yield from found(life, world, event)
                if not isinstance(met, Again):
                    assert met is not None
                    assert not isinstance(met, Held)
                    return _accepted(life, duplicate=True) if isinstance(met, Kept) else met
                continue
            case Held(record):
                if record.fingerprint != life.fingerprint:
                    return claim_refusals.key_reused(life.request)
                if record.job and record.state == "waiting" and not record.published:
                    ended = yield from _publish(life, record, duplicate=True)
                    if ended is not None:
                        return ended
                    continue
                return _accepted(life, duplicate=True)
            case Free():
                continue
            case _:
                pass
        unsure = claim_refusals.not_accepted("JetStream does not acknowledge it")
        yield Reply(unsure if isinstance(event, Unsure) else refusals.interrupted(event, life, world, "accepting"))
        if not isinstance(event, GivenUp):
            yield LINGER
        if key is None:
            yield RELEASE  # what has a key may be published by somebody else by now, and is left for whoever asks again
        return Silent("it was not accepted in time")


def retry(life: Life, world: World) -> Steps:
    """Have a dead job tried again, because an operator says so."""
    before: ClaimRecord | None = None
    event = yield LOOK
    if not isinstance(event, Held | Free):
        return claim_refusals.not_accepted(event.reason if isinstance(event, Lost) else "JetStream does not answer")
    if isinstance(event, Held) and event.record.fingerprint != life.fingerprint:
        return claim_refusals.other_life(life.claim_key)
    if isinstance(event, Held) and event.record.state == "waiting" and not event.record.published:
        pass  # an earlier retry came no further
    elif isinstance(event, Held) and event.record.state != "dead":
        return claim_refusals.not_dead(life.claim_key, event.record.state)
    else:
        before = event.record if isinstance(event, Held) else None
        event = yield Put("waiting", over=True)
        if not isinstance(event, Won):
            return claim_refusals.not_accepted("somebody else was quicker, or the store does not answer")
        event = yield LOOK
        assert isinstance(event, Held)
    outcome = yield from _publish(life, event.record, duplicate=False)
    if outcome is None:
        return claim_refusals.not_accepted("its record went meanwhile")
    if isinstance(outcome, Refusal):
        if before is not None:  # as it was, for whoever asks for its result
            yield Put("dead", over=True, answer=before.answer, reason=before.reason)
        return outcome
    yield Tell(DropDead(life.dead_seq))
    return Told({"dead": [{"job_id": life.claim_key, "status": "accepted"}]})


def _publish(life: Life, record: ClaimRecord, *, duplicate: bool) -> Generator[Step, LifeEvent | None, Outcome | None]:
    """Put the job into its stream and mark it as put there; None when its record went meanwhile.

    Whoever is told otherwise sends it again.
    """
    message_id = f"{life.claim_key}.{record.message}"
    event = yield Store(AppendJob(life, life.request, life.claim_key, message_id))
    if not isinstance(event, Appended):
        return claim_refusals.perhaps_accepted("it was interrupted")
    if event.reason is not None and event.certain and not duplicate and life.request.action == "submit":
        yield RELEASE  # nobody may know its key: its claim would stand for ever, and many such would fill the store
        return claim_refusals.not_accepted(event.reason)
    if event.reason is not None:
        return claim_refusals.perhaps_accepted(event.reason)
    # An unmarked job that is in its stream is done all the same, as long as it has a record.
    event = yield Put("waiting", over=True, published=True)
    if isinstance(event, Free):
        return None
    if isinstance(event, Held) and event.record.fingerprint != life.fingerprint:
        return claim_refusals.key_reused(life.request)  # the record that was being written was refused
    return _accepted(life, duplicate=duplicate)


def _accepted(life: Life, *, duplicate: bool) -> Told:
    return Told({"job_id": life.claim_key, "status": "accepted", "duplicate": duplicate})
