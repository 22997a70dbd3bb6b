"""Owns a request with an idempotency key: done once, and its answer stored before it is sent.

What is stored is a worker's terminal answer alone. What was decided before anything ran frees the key; where nobody
knows whether the work was done, the record says *unknown* until its worker answers after all, or an operator says.
"""

from __future__ import annotations

from controller.core import claim_refusals
from controller.core.commands import Pause, Put, Release, Reply, Restart
from controller.core.dispatching import dispatch
from controller.core.events import Cancelled, DeadlinePassed, Free, GivenUp, Held, Lost, Unsure, Won
from controller.core.pools import Group
from controller.core.securing import LINGER, Again, found
from controller.core.world import Kept, Life, Outcome, Silent, Steps, World
from subjects.answers import Frame, Result
from subjects.claims import ClaimRecord, StoredAnswer, StoredError, fingerprint
from subjects.errors import PROBLEM_CONTENT_TYPE, ErrorKind, Refusal, problem_body

RELEASE = Release()
# A store that does not take an answer is asked again after this.
STORE_AGAIN_S = 1.0
_STOPPED = (499, 504)
_ANSWERS = (ErrorKind.WORKER_ERROR, ErrorKind.WORKER_PROTOCOL)


def keyed(life: Life, key: str, group: Group, world: World) -> Steps:
    """Run a request under its key, or answer what was answered before."""
    request = life.request
    kept = world.kept.get(request.caller, request.capability, key)
    if kept is not None and kept.answer is not None:
        if kept.fingerprint != fingerprint(request.headers.content_type, request.body):
            return claim_refusals.key_reused(request)
        return Kept(kept.answer)
    life.claims(key)
    outcome = yield from dispatch(life, group, world)
    if isinstance(outcome, Held):
        ended = yield from found(life, world, outcome)
        assert isinstance(ended, Kept | Refusal), "what is final ends it"
        return ended
    if isinstance(outcome, Kept):
        return outcome
    if not life.executed:
        yield RELEASE
        return outcome
    answer = answer_of(life, outcome, world)
    if answer is not None:
        return (yield from _settle(life, world, outcome, answer))
    if isinstance(outcome, Refusal) and outcome.kind is ErrorKind.OVERLOADED:  # given up: the lease runs out
        return outcome
    assert life.chosen is not None
    if life.chosen.spec.idempotent:
        yield RELEASE
    else:
        reason = outcome.kind.suffix if isinstance(outcome, Refusal) else "deadline"
        yield Put("unknown", reason=reason)
    return outcome


def _settle(life: Life, world: World, outcome: Outcome, answer: StoredAnswer) -> Steps:
    """Store the answer, then send it; where another one stands already, send that.

    Storing goes on when the caller waits no more, and its lease is renewed meanwhile.
    """
    patience = Restart(world.limits.window_s)
    if life.replied:
        yield patience
    event = yield Put("done", answer=answer)
    while True:
        match event:
            case Won():
                return outcome
            case Held(record) if _may_settle(record, life, world):
                event = yield Put("done", over=True, answer=answer)
            case Held():
                ended = yield from found(life, world, event)
                if not isinstance(ended, Again):
                    assert ended is not None
                    assert not isinstance(ended, Held)
                    return ended
                event = yield Put("done", over=life.over, answer=answer)
            case Free():
                event = yield Put("done", answer=answer)
            case Unsure():
                event = yield LINGER
            case Lost():
                event = yield Pause(STORE_AGAIN_S)
                if event is None or not isinstance(event, DeadlinePassed | Cancelled | GivenUp):
                    event = yield Put("done", answer=answer)
            case DeadlinePassed() | Cancelled() if not life.replied:
                yield Reply(claim_refusals.unstored())
                yield patience
                event = yield LINGER
            case _:
                return Silent("the answer could not be stored") if life.replied else claim_refusals.unstored()


def _may_settle(record: ClaimRecord, life: Life, world: World) -> bool:
    """Whether it is this request's own outcome that nobody knew."""
    return record.state == "unknown" and record.owner == world.owner and record.fingerprint == life.fingerprint


def answer_of(life: Life, outcome: Outcome, world: World) -> StoredAnswer | None:
    """The answer that every duplicate gets, or None where the outcome is none of a worker's."""
    offer = life.chosen
    if offer is None or not life.flights:
        return None
    worker, version, attempts = life.flights[-1].offer.worker.id, offer.spec.version, len(life.flights)
    if isinstance(outcome, Result):
        return StoredAnswer(worker, version, attempts, outcome.body, outcome.content_type, outcome.passed)
    if isinstance(outcome, Frame):
        body = b"".join((*(life.chunks or ()), outcome.body))
        if life.kept_bytes + len(outcome.body) + len(outcome.passed) > world.limits.max_kept_bytes:
            return error_answer(claim_refusals.not_kept(world.limits.max_kept_bytes), life, worker, version)
        return StoredAnswer(worker, version, attempts, body, outcome.content_type or life.content_type, outcome.passed)
    # A worker that stopped because nobody waited any more, or its time was over, has not answered what was asked.
    if life.replied and isinstance(outcome, Refusal) and outcome.worker_code in _STOPPED:
        return None
    if isinstance(outcome, Refusal) and outcome.kind in _ANSWERS:
        return error_answer(outcome, life, worker, version)
    return None


def error_answer(refusal: Refusal, life: Life, worker: str = "", version: str = "") -> StoredAnswer:
    """A refusal as an answer that is kept."""
    return StoredAnswer(
        worker,
        version,
        len(life.flights),
        problem_body(refusal, life.request.request_id),
        PROBLEM_CONTENT_TYPE,
        "",
        StoredError(refusal.kind.status, refusal.detail, refusal.retry_after_ms),
    )
