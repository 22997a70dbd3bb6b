"""Owns what becomes of an accepted job: delivered and done or dead, asked for, cancelled. ``accepting`` is before it.

A job is a request with a key: its own, or its id. The record decides and the streams only carry, so that each step
here may be the last one of a controller that dies: the next delivery reads the record and finishes.
"""

from __future__ import annotations

from collections.abc import Generator

from controller.core import claim_refusals, refusals
from controller.core.commands import Look, Put, Restart, Step, Store, Tell
from controller.core.dispatching import dispatch
from controller.core.events import DEADLINE_PASSED, Cancelled, DeadlinePassed, Free, Held, LifeEvent, Lost, Unsure, Won
from controller.core.front import front
from controller.core.keyed import answer_of, error_answer
from controller.core.securing import ATTACH, LINGER, LOOK
from controller.core.stored import AckJob, AppendDead, Appended, KeepResult, NakJob
from controller.core.world import Kept, Life, Outcome, Silent, Steps, Told, World
from subjects.claims import FINAL, ClaimRecord, ClaimState, StoredAnswer
from subjects.errors import ErrorKind, Refusal

LOOK_KEPT, RESTART = Look(kept=True), Restart()
# What a later delivery may find otherwise: a job is tried again after one of these, and dead after any other.
_PASSING = frozenset(
    {
        ErrorKind.NO_SUCH_CAPABILITY,
        ErrorKind.NO_MATCH,
        ErrorKind.OVER_BUDGET,
        ErrorKind.NO_WORKER,
        ErrorKind.OVERLOADED,
        ErrorKind.STORE_UNAVAILABLE,
        ErrorKind.POLICY_UNAVAILABLE,
        ErrorKind.WORKER_LOST,
        ErrorKind.DEADLINE,
        ErrorKind.RATE_LIMITED,
    }
)
# Seconds until a job that was put back is delivered again: doubled with each attempt that may have run.
_AGAIN_S, _AGAIN_MOST_S = 1.0, 60.0
# And of one that nobody can do as things are, or nobody takes.
_UNFIT_AGAIN_S = 30.0
# What a record takes to be read, at the most, for whoever will not wait for the job.
_READ_S = 2.0
_UNFIT = (ErrorKind.NO_SUCH_CAPABILITY, ErrorKind.NO_MATCH, ErrorKind.OVER_BUDGET)

Ending = Generator[Step, LifeEvent | None, Outcome]


def deliver(life: Life, world: World) -> Steps:
    """Work on a job that the stream handed out, as far as its record allows."""
    event = yield LOOK_KEPT
    looked = isinstance(event, Free)
    while True:
        match event:
            case Held(record):
                looked = False
                other = record.fingerprint != life.fingerprint
                if other and record.state in FINAL:
                    # It ended before its key could be used again, and only its acknowledgement was lost.
                    yield Tell(AckJob(life.delivery))
                    return Silent("a message of an earlier life of its key")
                if other:
                    event = yield ATTACH  # perhaps nothing but a claim of somebody here that will be refused
                    continue
                if record.state in FINAL:
                    return (yield from _close(life, record))
                life.earlier = record.attempts > 0
                lapsed = event.lapsed
                often = record.attempts >= world.limits.job_attempts
                free = record.state == "waiting" or (lapsed and record.idempotent)
                if free and life.cancelled:
                    event = yield from _end(life, "cancelled", refusals.cancelled(life), record.worker)
                    event = event if _is_news(event, record) else (yield ATTACH)
                elif record.state == "waiting" or (free and not often):
                    outcome = yield from _attempt(life, record, world)
                    if not isinstance(outcome, Held):
                        return outcome
                    event = outcome if _is_news(outcome, record) else (yield ATTACH)
                elif record.state == "unknown" or lapsed:
                    event = yield from _end(life, "dead", claim_refusals.job_lost(record), record.worker)
                    event = event if _is_news(event, record) else (yield ATTACH)
                else:
                    event = yield ATTACH
            case Won():
                event = yield LOOK
            case Free() if not looked:
                event, looked = (yield LOOK_KEPT), True  # its claim is gone, and how it ended may be kept
            case Free():
                # Its record went before it was done, which is nobody's doing here: say so, and run nothing.
                event = yield from _end(life, "dead", claim_refusals.record_missing(), "")
            case Cancelled():
                event = yield LOOK_KEPT  # who cancelled was told so: it must not be run later
            case DeadlinePassed():
                event = yield ATTACH  # an attempt is bounded, and waiting for a lapse is none
            case _:
                return Silent("left to its next delivery")


def _is_news(event: LifeEvent, record: ClaimRecord) -> bool:
    """Whether it is worth looking at at once: marked as published just now, a job is as free as before."""
    if not isinstance(event, Held) or event.record.state in FINAL:
        return True
    return event.record.state == "waiting" and event.record.nonce != record.nonce


def _attempt(life: Life, record: ClaimRecord, world: World) -> Generator[Step, LifeEvent | None, Outcome | Held]:
    """One try; ``Held`` when the record turned out to be somebody else's."""
    life.over = True
    yield RESTART
    refusal = yield from front(life, world)
    outcome: Outcome | Held
    if refusal is not None:
        outcome = refusal
    else:
        outcome = yield from dispatch(life, world.registry.groups[life.request.capability], world)
    if isinstance(outcome, Held):
        return outcome
    tried = record.attempts + (life.executed > 0)
    answer = answer_of(life, outcome, world)
    if answer is not None and not isinstance(outcome, Refusal):
        if answer.error is None:
            return (yield from _ended(life, "done", answer))
        return (yield from _ended(life, "dead", answer, ErrorKind.TOO_LARGE))  # done, and too long to be kept
    if not isinstance(outcome, Refusal):
        return (yield from _put_back(life, tried, 0.0))
    if outcome.kind is ErrorKind.CANCELLED:
        return (yield from _ended(life, "cancelled", error_answer(outcome, life)))
    offer = life.chosen
    if life.executed and outcome.kind is ErrorKind.OVERLOADED:
        return Silent("the controller stops")  # its lease runs out
    if life.executed and offer is not None and not offer.spec.idempotent and answer is None:
        assert life.chosen is not None
        unknown = claim_refusals.job_unknown(outcome, life.flights[-1].offer)
        return (yield from _ended(life, "dead", error_answer(unknown, life), ErrorKind.OUTCOME_UNKNOWN))
    group = world.registry.groups.get(life.request.capability)
    if life.earlier and group is not None and not any(offer.spec.idempotent for offer in group.offers):
        # It was when an attempt before this one was sent.
        unknown = claim_refusals.outcome_unknown(record)
        return (yield from _ended(life, "dead", error_answer(unknown, life), ErrorKind.OUTCOME_UNKNOWN))
    retryable = outcome.retryable and offer is not None and offer.spec.idempotent
    if (outcome.kind in _PASSING or retryable) and tried < world.limits.job_attempts:
        least_s = _UNFIT_AGAIN_S if outcome.kind in _UNFIT else (outcome.retry_after_ms or 0) / 1000
        return (yield from _put_back(life, tried, least_s))
    return (yield from _ended(life, "dead", answer or error_answer(outcome, life), outcome.kind))


def _ended(
    life: Life, state: ClaimState, answer: StoredAnswer, kind: ErrorKind | None = None
) -> Generator[Step, LifeEvent | None, Outcome | Held]:
    """Write the job's end, then say it; ``Held`` when somebody else wrote another."""
    event = yield Put(state, over=life.over, answer=answer, reason=kind.suffix if kind is not None else "")
    while isinstance(event, Unsure | DeadlinePassed | Cancelled):
        event = yield LINGER
    match event:
        case Won():
            event = yield LOOK
            assert isinstance(event, Held)
            return (yield from _close(life, event.record))
        case Held():
            return event
        case _:
            return Silent("left to its next delivery")


def _end(life: Life, state: ClaimState, refusal: Refusal, worker: str) -> Generator[Step, LifeEvent | None, LifeEvent]:
    """End a job that is not to be run: what stands there now."""
    event = yield Put(state, over=True, answer=error_answer(refusal, life, worker), reason=refusal.kind.suffix)
    while isinstance(event, Unsure | DeadlinePassed | Cancelled):
        event = yield LINGER
    assert event is not None
    return event


def _put_back(life: Life, tried: int, least_s: float) -> Generator[Step, LifeEvent | None, Outcome | Held]:
    """Have it delivered again later. What is not ours any more is left alone."""
    if not life.cancelled:
        event = yield Put("waiting", over=life.over)
        while isinstance(event, Unsure | DeadlinePassed | Cancelled):
            event = yield LINGER
    if life.cancelled:
        return (yield from _ended(life, "cancelled", error_answer(refusals.cancelled(life), life)))
    if isinstance(event, Won):
        yield Tell(NakJob(life.delivery, max(least_s, min(_AGAIN_S * 2 ** min(tried, 10), _AGAIN_MOST_S))))
        return Silent("put back")
    return Silent("left to its next delivery")


def _close(life: Life, record: ClaimRecord) -> Ending:
    """The record is final: keep the result, or bury it with it, and let the stream forget the job."""
    event = yield Store(KeepResult(life, life.claim_key, record))
    if isinstance(event, Appended) and event.reason is None and record.state == "dead":
        message_id = f"{life.claim_key}.dead.{record.message}"
        event = yield Store(AppendDead(life, life.request, life.claim_key, message_id, record))
    if isinstance(event, Appended) and event.reason is None:
        yield Tell(AckJob(life.delivery))
        assert record.answer is not None
        return Kept(record.answer, record.state)
    return Silent("left to its next delivery")


def result(life: Life, world: World) -> Steps:
    """A job's outcome, for its own caller, as soon as there is one."""
    job_id = life.claim_key
    event = yield LOOK_KEPT
    status, late = "", False
    while True:
        match event:
            case Held(record):
                if record.caller != life.request.caller:
                    return claim_refusals.no_such_job(job_id)
                if record.state in FINAL and record.answer is not None:
                    return Kept(record.answer, record.state)
                if record.state not in ("waiting", "dispatching"):
                    return claim_refusals.ended_without_answer(record)
                status = "queued" if record.state == "waiting" else "running"
                event = DEADLINE_PASSED if late or world.crowded else (yield ATTACH)
            case Free():
                return claim_refusals.no_such_job(job_id)
            case Lost(reason):
                return claim_refusals.unreadable(reason)
            case DeadlinePassed() if status:
                return Told({"job_id": job_id, "status": status}, status)
            case DeadlinePassed() if not late:  # the wait is over before it began; what there is is told all the same
                late = True
                yield Restart(_READ_S)
                event = yield LOOK_KEPT
            case DeadlinePassed():
                return claim_refusals.unreadable("the store does not answer")
            case _:
                return refusals.interrupted(event, life, world, "waiting for the job")


def cancel(life: Life, world: World) -> Steps:
    """Cancel a job that nobody works on."""
    job_id = life.claim_key
    event = yield LOOK
    while isinstance(event, Held):
        record = event.record
        theirs = record.job and record.caller == life.request.caller
        if theirs and record.state == "cancelled":
            return Told({"status": "cancelled", "request_id": job_id})
        if not theirs or record.state != "waiting":
            break
        life.earlier = record.attempts > 0
        refusal = refusals.cancelled(life)
        event = yield Put("cancelled", over=True, answer=error_answer(refusal, life), reason=refusal.kind.suffix)
        if isinstance(event, Won):
            event = yield LOOK
            assert isinstance(event, Held)
            yield Store(KeepResult(life, life.claim_key, event.record))
            return Told({"status": "cancelled", "request_id": job_id})
        if isinstance(event, Held) and event.record.state == "waiting":
            event = yield ATTACH  # it is just being worked on, or marked as accepted
    if isinstance(event, Held | Free):
        return refusals.no_such_request(job_id)
    if isinstance(event, Lost):
        return claim_refusals.unreadable(event.reason)
    return claim_refusals.unreadable("JetStream does not answer")
