"""Owns the middle of a request's life: choosing, waiting, sending, following, and choosing again.

``life``, ``keyed`` and ``jobs`` come here once a request may be done. A dispatch that ends without an outcome is
followed by another where that is safe; with a key the claim says so before anything waits or is sent.
"""

from __future__ import annotations

from collections.abc import Generator

from controller.core import crowd_refusals, refusals
from controller.core.admission import Queue, admit
from controller.core.commands import Follow, Forward, GiveUp, Reply, Send, Step, Wait
from controller.core.events import (
    MADE_ROOM,
    WOKEN,
    Cancelled,
    DeadlinePassed,
    GivenUp,
    Held,
    LifeEvent,
    WorkerLost,
)
from controller.core.fleet import Offer
from controller.core.front import is_json
from controller.core.pools import Group
from controller.core.securing import Again, secure, standing
from controller.core.world import Life, Outcome, Silent, World, WouldDispatch
from subjects.answers import Fault, Frame, Garbage, NoResponders, NotRun, Result
from subjects.errors import Refusal

GIVE_UP, FOLLOW, STOP, WOULD_DISPATCH = GiveUp(), Follow(), Follow(stop=True), WouldDispatch()


def dispatch(life: Life, group: Group, world: World) -> Generator[Step, LifeEvent | None, Outcome | Held]:
    """Have a worker do it. ``Held`` is for a job whose record turned out to be somebody else's."""
    headers = life.request.headers
    last: Refusal | None = None
    secured = not life.key
    while True:
        pool = group.pool(headers.version, headers.constraints, headers.budget_tokens)
        offer = admit(life, group, pool, world)
        if isinstance(offer, Refusal):
            if not life.key or life.known or life.delivery:
                return last or offer
            ended = yield from standing(life, world)  # the key comes before the match and before availability
            if ended is not None and not isinstance(ended, Again):
                return ended
            continue
        if isinstance(offer, Queue):
            if not secured:
                ended = yield from secure(life, world, "waiting")
                if ended is not None and not isinstance(ended, Again):
                    return ended
                secured = ended is None
                continue  # time may have passed: choose among those who are free now
            event = yield Wait(pool, offer.for_s)
            if isinstance(event, Held):  # another one was answered in its place
                return event
            if event is MADE_ROOM:
                return crowd_refusals.made_room(group)
            if event is not WOKEN:
                return refusals.interrupted(event, life, world, "waiting for a free worker")
            secured = not life.key
            continue
        if life.maybe_executed and not offer.spec.idempotent:
            life.try_not_again(offer)  # it must not do what may have been done
            continue
        life.chosen, life.price = offer, offer.price
        life.expected_ms = offer.latency.slowest_ms(world.now)
        if headers.dry_run:
            return WOULD_DISPATCH
        if life.key:
            ended = yield from secure(life, world, "dispatching", offer)
            if isinstance(ended, Again):
                continue
            if ended is not None:
                return ended
            secured = False
        left_ms = int((life.deadline - world.now) * 1000)
        if left_ms < 1:
            return refusals.deadline(life, "before a worker was found", world.now)
        event = yield Send(offer, left_ms)
        outcome = yield from _follow(life, offer, event, world)
        if not isinstance(outcome, Again):
            return outcome
        last = outcome.last or last


def _follow(
    life: Life, offer: Offer, event: LifeEvent | None, world: World
) -> Generator[Step, LifeEvent | None, Outcome | Again | Held]:
    """What comes back from one dispatch."""
    executed, frames = life.executed + 1, 0
    life.chunks, life.content_type, life.kept_bytes = None, None, 0
    while True:
        match event:
            case Frame():
                broken = _broken_frame(offer, event, frames, world)
                if broken is not None:
                    life.executed = executed
                    if event.kind != "end":
                        yield GIVE_UP
                    return _broke(offer, broken, world)
                frames += 1
                if event.kind != "end":
                    _keep(life, event, world)
                    event = yield FOLLOW if life.delivery else Forward(event)
                    continue
                if event.fault is None:
                    life.executed = executed
                    return _checked(event, offer, world) if event.body else event
                event = event.fault
            case Result() if not frames:
                life.executed = executed
                return _checked(event, offer, world)
            case Result() | NotRun() | NoResponders() if frames:
                life.executed = executed
                return _broke(offer, "after frames it sent something else than a frame", world)
            case NotRun(reason):
                if reason == "deadline":
                    life.try_not_again(offer)
                return Silent("nothing ran, and nobody waits for it") if life.replied else Again()
            case NoResponders():
                return Silent("nothing ran, and nobody waits for it") if life.replied else Again()
            case Fault():
                life.executed = executed
                return _again_or(refusals.worker_error(offer, event), life, offer, world, retryable=event.retryable)
            case Garbage(detail):
                life.executed = executed
                return _broke(offer, detail, world)
            case WorkerLost(reason):
                life.executed = executed
                return _again_or(refusals.worker_lost(offer, reason), life, offer, world, retryable=True)
            case Held():  # another one was answered in its place
                life.executed = executed
                yield GIVE_UP
                return event
            case DeadlinePassed() | Cancelled() if life.lingers:
                # Its answer is worth having for whoever asks again under the key.
                life.executed = executed
                hung = isinstance(event, DeadlinePassed) and world.now < life.deadline
                if hung:
                    refusal = refusals.hung(offer)
                    again = _again_or(refusal, life, offer, world, retryable=True)
                    if isinstance(again, Again):
                        yield GIVE_UP
                        return again
                else:
                    refusal = refusals.interrupted(event, life, world, f"at worker {offer.worker.id}")
                yield Reply(refusal)
                event = yield STOP if isinstance(event, Cancelled) else FOLLOW
            case DeadlinePassed() if world.now < life.deadline:
                life.executed = executed
                yield GIVE_UP
                return _again_or(refusals.hung(offer), life, offer, world, retryable=True)
            case _:
                life.executed = executed
                if not (life.key and isinstance(event, GivenUp)):
                    yield GIVE_UP
                return refusals.interrupted(event, life, world, f"at worker {offer.worker.id}")


def _broke(offer: Offer, how: str, world: World) -> Refusal:
    """What cannot be passed on is a failure of the worker, though it answered."""
    world.health.failed(offer, 0.0, world.now)
    return refusals.protocol(offer, how)


def _keep(life: Life, frame: Frame, world: World) -> None:
    """What was streamed is the answer of those who ask again, as long as it is not too long."""
    if not life.key or frame.kind != "chunk":
        return
    life.kept_bytes += len(frame.body)
    if life.kept_bytes > world.limits.max_kept_bytes:
        life.chunks = None
        return
    if life.chunks is None:
        life.chunks, life.content_type = [], frame.content_type
    life.chunks.append(frame.body)


def _again_or(refusal: Refusal, life: Life, offer: Offer, world: World, *, retryable: bool) -> Refusal | Again:
    """Another worker after work that may have run: only where running twice is safe, and the budget allows it."""
    allowed = (
        retryable
        and offer.spec.idempotent
        and not life.frames
        and not life.replied
        and life.executed < world.limits.max_attempts
    )
    if not allowed or not world.retries.take(world.now):
        return refusal
    life.try_not_again(offer)
    return Again(refusal)


def _checked(result: Result | Frame, offer: Offer, world: World) -> Outcome:
    too_large = _too_large(result, offer, world)
    if too_large is not None:
        return _broke(offer, too_large, world)
    if offer.output_schema is not None and is_json(result.content_type or "application/json"):
        mismatch = world.check(offer.output_schema, result.body)
        if mismatch is not None:
            return _broke(offer, f"its answer does not fit its output schema: {mismatch.message}", world)
    return result


def _broken_frame(offer: Offer, frame: Frame, expected: int, world: World) -> str | None:
    if not offer.spec.streaming:
        return "it sends frames, and did not declare streaming"
    if frame.seq != expected:
        return f"frame {frame.seq} came where {expected} was due (one may have been lost with a connection)"
    return _too_large(frame, offer, world)


def _too_large(answer: Result | Frame, offer: Offer, world: World) -> str | None:
    size = len(answer.body)
    if offer.max_output_bytes is not None and size > offer.max_output_bytes:
        return f"its answer of {size} bytes is over its own max_output_bytes of {offer.max_output_bytes}"
    if size + len(answer.passed) > world.max_answer_bytes:
        return f"its answer of {size} bytes is more than one message carries, which is {world.max_answer_bytes}"
    return None
